"""The manifests say what they should without a cluster: rendered form, schema of every kind, hardening, image.

What only a real API server can judge (CEL rules, strict fields, RBAC in use) is in tests/cluster/test_manifests.py.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from agent import settings
from agent.advertising import ServiceAddress
from agent.cluster.kinds import RESOURCES
from agent.cluster.nodestate import KIND, PATH
from agent.intent import ControlPlane, Instance, MeshMode, PodRoutes
from agent.model import BGPILOT_GROUP, BGPILOT_VERSION, Kind
from bgp.model import BGP_PORT, DEFAULT_HOLD_SECONDS

PROJECT = Path(__file__).resolve().parents[2]
DEPLOY = PROJECT / "deploy"
OBJECTS = list(yaml.safe_load_all((DEPLOY / "agent.yaml").read_text()))
VERSIONS = ("1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36")
"""The oldest has the IP and CIDR functions of CEL."""
AGENT, SPEAKER = 0, 1


def of_kind(kind: str) -> list[Any]:
    return [thing for thing in OBJECTS if thing["kind"] == kind]


def containers() -> list[Any]:
    """The agent, and its sidecar."""
    return [*pod()["containers"], *pod()["initContainers"]]


def pod() -> Any:
    (daemon_set,) = of_kind("DaemonSet")
    return daemon_set["spec"]["template"]["spec"]


def schemas(kind: str) -> Any:
    (spec,) = (crd["spec"] for crd in of_kind("CustomResourceDefinition") if crd["spec"]["names"]["kind"] == kind)
    return spec["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]


def fields(schema: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every member of every object in a schema, with its path."""
    for name, member in schema.get("properties", {}).items():
        yield f"{path}.{name}", member
        yield from fields(member, f"{path}.{name}")
    if "items" in schema:
        yield from fields(schema["items"], f"{path}[]")


def every_field() -> list[tuple[str, Any]]:
    found = []
    for crd in of_kind("CustomResourceDefinition"):
        for version in crd["spec"]["versions"]:
            found += fields(version["schema"]["openAPIV3Schema"], crd["spec"]["names"]["kind"])
    return found


def test_what_is_committed_is_what_is_rendered() -> None:
    done = subprocess.run(
        [sys.executable, DEPLOY / "render.py", "--check"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_follows_the_schema_of_kubernetes(version: str) -> None:
    for thing in OBJECTS:
        kubernetes_validate.validate(thing, version, strict=True)


# Custom kinds.


def test_the_custom_kinds_are_those_that_the_agent_watches_and_the_one_that_it_writes() -> None:
    defined = {
        crd["spec"]["names"]["kind"]: (
            crd["spec"]["group"],
            crd["spec"]["versions"][0]["name"],
            crd["spec"]["names"]["plural"],
        )
        for crd in of_kind("CustomResourceDefinition")
    }

    watched = {kind: resource for kind, resource in RESOURCES.items() if resource.group == BGPILOT_GROUP}
    assert f"/apis/{'/'.join(defined.pop(KIND))}" == PATH
    assert defined == watched
    assert {version for _, version, _ in defined.values()} == {BGPILOT_VERSION}


def test_defaults_are_the_agents_own() -> None:
    instance, peer = schemas(Kind.INSTANCE), schemas(Kind.PEER)

    mesh, wanted = instance["mesh"]["properties"], Instance(name="")
    reflectors = mesh["reflectors"]["properties"]

    assert "default" not in instance["asn"], "with asnFrom, an AS that was not given must not be there"
    assert str(wanted.asn) in instance["asn"]["description"]
    assert instance["podRoutes"]["default"] == wanted.pod_routes
    assert instance["priority"]["default"] == wanted.priority
    assert instance["listenPort"]["default"] == wanted.listen_port
    assert (mesh["mode"]["default"], mesh["holdSeconds"]["default"]) == (wanted.mesh.mode, wanted.mesh.hold_seconds)
    assert reflectors["threshold"]["default"] == wanted.mesh.threshold
    assert reflectors["controlPlane"]["default"] == wanted.mesh.control_plane
    assert (peer["port"]["default"], peer["holdSeconds"]["default"]) == (BGP_PORT, DEFAULT_HOLD_SECONDS)


def test_choices_are_those_that_the_agent_knows() -> None:
    advertisement = schemas(Kind.ADVERTISEMENT)
    mesh = schemas(Kind.INSTANCE)["mesh"]["properties"]

    assert schemas(Kind.INSTANCE)["podRoutes"]["enum"] == list(PodRoutes)
    assert mesh["mode"]["enum"] == list(MeshMode)
    assert mesh["reflectors"]["properties"]["controlPlane"]["enum"] == list(ControlPlane)
    assert advertisement["service"]["properties"]["addresses"]["items"]["enum"] == list(ServiceAddress)


def test_every_field_says_what_it_is_for() -> None:
    silent = [path for path, field in every_field() if not field.get("description") and not path.endswith(".metadata")]

    assert silent == []


def test_every_rule_says_what_to_do() -> None:
    rules = [(path, rule) for path, field in every_field() for rule in field.get("x-kubernetes-validations", ())]

    assert len(rules) > 10
    assert [path for path, rule in rules if len(rule.get("message", "")) < 30] == []


def test_every_selector_is_the_same() -> None:
    selectors = [field["properties"] for path, field in every_field() if path.lower().endswith("selector")]

    assert len(selectors) > 1
    assert selectors == [selectors[0]] * len(selectors)


# Rights.


def rights(kind: str) -> set[tuple[str, str, str]]:
    (role,) = of_kind(kind)
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_agent_may_watch_what_it_watches_and_write_events_and_its_state_and_nothing_else() -> None:
    wanted = {
        (resource.group, resource.plural, verb)
        for kind, resource in RESOURCES.items()
        if kind not in {Kind.SECRET, Kind.DAEMON_SET}
        for verb in ("list", "watch")
    }

    written = {("", "events", "create"), ("", "events", "patch"), (BGPILOT_GROUP, "bgpnodestates/status", "patch")}
    kept = {(BGPILOT_GROUP, "bgpnodestates", verb) for verb in ("create", "delete", "get")}
    assert rights("ClusterRole") == wanted | written | kept


def test_secrets_and_its_own_daemon_set_may_be_read_in_the_agents_namespace_only() -> None:
    (role,) = of_kind("Role")
    (daemon_set,) = of_kind("DaemonSet")

    assert rights("Role") == {
        (group, resource, verb)
        for group, resource in (("", "secrets"), ("apps", "daemonsets"))
        for verb in ("list", "watch")
    }
    assert role["metadata"]["namespace"] == of_kind("Namespace")[0]["metadata"]["name"]
    (rule,) = (rule for rule in role["rules"] if rule["resources"] == ["daemonsets"])
    assert rule["resourceNames"] == [daemon_set["metadata"]["name"]] == [settings.DEFAULT_DAEMON_SET]


# The pod.


def test_one_node_at_a_time_is_updated_and_ends_within_ten_seconds() -> None:
    (daemon_set,) = of_kind("DaemonSet")
    spec = daemon_set["spec"]

    assert spec["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}}
    assert spec["minReadySeconds"] == 10
    assert pod()["terminationGracePeriodSeconds"] == 10


def test_the_pod_runs_on_every_node_in_its_network() -> None:
    assert pod()["hostNetwork"] is True
    assert pod()["tolerations"] == [{"operator": "Exists"}]
    assert pod()["priorityClassName"] == "system-node-critical"
    assert "hostPID" not in pod()
    assert "nodeSelector" not in pod()


@pytest.mark.parametrize(
    ("container", "added"), [(AGENT, ["NET_ADMIN", "NET_BIND_SERVICE"]), (SPEAKER, ["NET_BIND_SERVICE"])]
)
def test_a_container_has_the_capabilities_it_needs_and_no_more(container: int, added: list[str]) -> None:
    context = containers()[container]["securityContext"]

    assert context["capabilities"] == {"drop": ["ALL"], "add": added}
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert "privileged" not in context
    assert pod()["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


def test_no_container_is_throttled() -> None:
    for container in containers():
        resources = container["resources"]
        assert set(resources["requests"]) == {"cpu", "memory"}
        assert set(resources["limits"]) == {"memory"}


def test_the_probes_ask_where_the_agent_answers() -> None:
    listen = settings.parse_listen("--health-address", settings.DEFAULT_HEALTH_ADDRESS)
    agent = containers()[AGENT]

    for probe, path in (("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
        asked = agent[probe]["httpGet"]
        assert (asked["host"], asked["port"], asked["path"]) == (*listen, path)


def test_the_metrics_port_is_the_agents_default() -> None:
    listen = settings.parse_listen("--metrics-address", settings.DEFAULT_METRICS_ADDRESS)

    assert [port["containerPort"] for port in containers()[AGENT]["ports"]] == [listen.port]


def test_agent_and_speaker_meet_in_the_run_dir_and_share_nothing_else() -> None:
    mounts = [{mount["mountPath"] for mount in container["volumeMounts"]} for container in containers()]

    assert mounts[AGENT] & mounts[SPEAKER] == mounts[SPEAKER] == {settings.DEFAULT_RUN_DIR}
    assert [container["args"] for container in containers()] == [["run", "--speaker", "external"], ["speaker"]]


def test_the_speaker_is_a_sidecar_so_that_it_is_stopped_after_the_agent() -> None:
    assert [container["name"] for container in pod()["containers"]] == ["agent"]
    assert containers()[SPEAKER]["restartPolicy"] == "Always"


def test_only_the_agent_has_the_service_accounts_token() -> None:
    (account,) = of_kind("ServiceAccount")

    assert account["automountServiceAccountToken"] is False
    assert pod()["automountServiceAccountToken"] is False
    mounted = [[mount["name"] for mount in container["volumeMounts"]] for container in containers()]
    assert mounted == [["run", "api-access"], ["run"]]


def test_the_agents_secrets_are_looked_for_in_its_own_namespace() -> None:
    (namespace,) = of_kind("Namespace")
    variables = {entry["name"]: entry["valueFrom"]["fieldRef"]["fieldPath"] for entry in containers()[AGENT]["env"]}

    assert variables == {"BGPILOT_NODE_NAME": "spec.nodeName", "POD_NAMESPACE": "metadata.namespace"}
    assert namespace["metadata"]["name"] == settings.DEFAULT_NAMESPACE


def test_the_image_is_this_version() -> None:
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]

    assert {container["image"] for container in containers()} == {f"bgpilot:{version}"}
    assert f"ARG VERSION={version}\n" in DOCKERFILE


# The image.

DOCKERFILE = (PROJECT / "Dockerfile").read_text()


def copied() -> list[str]:
    """What the Dockerfile takes from the checkout."""
    lines = [
        line.split()[1:-1] for line in DOCKERFILE.splitlines() if line.startswith("COPY ") and "--from" not in line
    ]
    return [source for sources in lines for source in sources]


def test_everything_that_is_copied_exists_and_gets_past_dockerignore() -> None:
    ignore = [
        line for line in (PROJECT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")
    ]
    kept = {line.removeprefix("!") for line in ignore if line.startswith("!")}

    assert ignore[0] == "*"
    assert set(copied()) == kept
    assert [source for source in copied() if not (PROJECT / source).exists()] == []


def test_the_base_is_an_argument_of_both_stages() -> None:
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["${BASE}", "${BASE}"]
    assert "ARG BASE=python:3.13-slim\n" in DOCKERFILE


def test_nothing_is_installed_that_is_not_named_by_its_hash_or_built_here() -> None:
    installs = [line for line in DOCKERFILE.splitlines() if re.search(r"\bpip\b.* install ", line)]

    assert len(installs) == 3
    assert [line for line in installs if "--require-hashes" not in line and "--no-index" not in line] == []
    assert "apt-get" not in DOCKERFILE


def test_the_image_is_built_with_what_the_lock_for_developers_says() -> None:
    pin = re.compile(r"^(\S+==\S+)", re.MULTILINE)
    everything = set(pin.findall((PROJECT / "requirements-dev.lock").read_text()))
    builders = set(pin.findall((DEPLOY / "image-build.lock").read_text()))

    assert any(name.startswith("hatchling==") for name in builders)
    assert builders <= everything


def test_no_file_of_deploy_names_this_machine() -> None:
    for path in (PROJECT / "Dockerfile", *DEPLOY.rglob("*")):
        if path.is_file() and not fnmatch(path.name, "*.pyc"):
            assert str(PROJECT) not in path.read_text()
