# The two commands are `make demo` and `make test`; both do all the set-up they need on a fresh Debian or Ubuntu machine.
SHELL := /bin/bash
PY := .venv/bin/python
READY := .venv/.ready
PYTEST := $(PY) -m pytest

.PHONY: demo test soak test-fast lint format bench setup system lock render clean

demo: setup            ## a cluster of nodes in network namespaces does the whole job, with a figure and PASS/FAIL per scene
	$(PY) -m tests.lab.demo

test: setup            ## everything: unit, live (real ExaBGP, kernel, routers), cluster (real control plane); one summary
	@bash .ci/system-packages browser
	$(PY) -m tests.lab.gobuild
	$(PY) -m tests.lab.everything

soak: setup            ## random events for half an hour (BGPILOT_SOAK_SECONDS, BGPILOT_SEED), and the long form of other tests
	BGPILOT_SOAK=1 $(PYTEST) --timeout=0 -p no:cacheprovider --require-all -s $$(grep -rlw BGPILOT_SOAK tests/live --include='*.py')

test-fast: $(READY)    ## without namespaces, and with fewer examples of each property: seconds, to run after each edit
	$(PYTEST) --hypothesis-profile=quick -m "not live and not cluster" tests/unit

lint: $(READY)         ## format, ruff, mypy --strict, import contracts, rendered files
	.venv/bin/ruff format --check agent bgp deploy tests
	.venv/bin/ruff check agent bgp deploy tests
	.venv/bin/mypy
	.venv/bin/lint-imports
	$(PY) deploy/render.py --check

format: $(READY)
	.venv/bin/ruff format agent bgp deploy tests
	.venv/bin/ruff check --fix agent bgp deploy tests

bench: setup           ## measures, beside BIRD and FRR in the same run; prints ratios
	$(PY) -m tests.bench

setup: system $(READY)

system:                ## system packages through apt when root; else says what is missing
	@bash .ci/system-packages

$(READY): requirements-dev.lock pyproject.toml
	@bash .ci/system-packages python3-venv
	python3 -m venv --clear .venv
	.venv/bin/pip install --quiet --require-hashes -r requirements-dev.lock
	.venv/bin/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

lock:                  ## after a change of dependencies: versions and hashes, no URLs
	uv pip compile --quiet --generate-hashes --no-header --universal --python-version 3.11 pyproject.toml -o requirements.lock
	uv pip compile --quiet --generate-hashes --no-header --universal --python-version 3.11 --extra dev pyproject.toml -o requirements-dev.lock

render: $(READY)       ## deploy/agent.yaml from deploy/base, the README's tables of settings from deploy/crds
	$(PY) deploy/render.py

clean:
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
