"""Kinds that are not installed, and Secrets that do not exist or may not be read."""

from typing import Any

import pytest

from agent.model import (
    Kind,
    Listed,
    Record,
    Secret,
)
from tests.unit.cluster.machine import TOR, Run, event


@pytest.mark.parametrize("kind", [Kind.SERVICE_CIDR, Kind.INSTANCE, Kind.PEER, Kind.ADVERTISEMENT])
def test_a_kind_that_is_not_installed_has_no_objects_and_is_asked_for_again(kind: Kind) -> None:
    run = Run(kind)
    run.ask()
    first = run.refuse(404)
    pauses = []
    for _ in range(10):
        pauses.append(run.pause)
        assert run.refuse(404) == []

    assert first == [Listed(kind, {})]
    assert run.state.healthy
    assert all(10 <= pause <= 30 for pause in pauses)


def test_a_kind_that_was_there_and_is_gone_keeps_its_objects() -> None:
    run = Run(Kind.PEER)
    run.ask()
    run.refuse(404)
    peer = {"metadata": {"name": "tor", "resourceVersion": "3"}, "spec": {"address": "192.0.2.1", "asn": 1}}
    run.sync(peer)
    run.end(after=400)
    run.ask()

    assert run.refuse(404) == []
    assert len(run.world.records(Kind.PEER)) == 1
    assert run.state.problem is not None
    assert run.state.problem.reason == "apiNotFound"


def secret(encoded: str = "aHVudGVyMg==") -> dict[str, Any]:
    return {
        "metadata": {"name": "tor", "namespace": "agent", "resourceVersion": "11"},
        "data": {"password": encoded},
    }


def found(run: Run) -> Record | None:
    return run.world.get(TOR)


def test_a_secret_is_watched_by_its_name() -> None:
    assert Run(Kind.SECRET, TOR).query()["fieldSelector"] == "metadata.name=tor"


def test_a_secret_that_does_not_exist_is_known_as_such_comes_and_goes() -> None:
    run = Run(Kind.SECRET, TOR).sync()
    missing = found(run)
    run.hear(event("ADDED", secret()))
    there = found(run)
    run.hear(event("DELETED", secret()))

    assert missing == Secret(name="tor", found=False, why="the namespace agent has no Secret tor")
    assert isinstance(there, Secret)
    assert there.found
    assert found(run) == missing


def test_a_secret_that_we_may_not_read_is_as_good_as_missing_and_names_the_rule() -> None:
    run = Run(Kind.SECRET, TOR)
    run.ask()
    run.refuse(403, b'{"message":"secrets \\"tor\\" is forbidden","code":403}')
    unreadable = found(run)
    run.ask()
    assert run.refuse(403, b'{"message":"secrets \\"tor\\" is forbidden","code":403}') == []

    assert isinstance(unreadable, Secret)
    assert not unreadable.found
    assert "forbidden" in unreadable.why
    assert run.state.problem is not None
    assert 'Role in namespace agent with the rule apiGroups [""], resources ["secrets"], resourceNames ["tor"]' in (
        run.state.problem.fix
    )


def test_a_secret_that_we_may_no_longer_read_stays_as_it_was() -> None:
    run = Run(Kind.SECRET, TOR).sync(secret())
    run.end(after=400)
    run.ask()
    run.refuse(403)

    assert isinstance(there := found(run), Secret)
    assert there.found


def test_a_secret_that_never_parsed_is_known_as_such_and_blocks_nothing() -> None:
    run = Run(Kind.SECRET, TOR).sync(secret("not base64!"))

    assert run.world.secrets_known(frozenset({"tor"}))
    assert isinstance(there := found(run), Secret)
    assert not there.found
    assert "is not base64" in there.why
