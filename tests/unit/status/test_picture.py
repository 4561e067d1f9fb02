"""Before there is a picture: the one reason, whoever is asked; and nothing is taken for missing."""

from __future__ import annotations

import pytest

from agent.loop import Phase
from agent.model import ALWAYS_WATCHED, Key, Kind, Problem, WatchState
from agent.status.explain_unknown import explained
from agent.status.health import ailments
from agent.status.picture import no_picture
from agent.status.status import LISTING
from agent.status.tables import fib_view
from tests.unit.status.scene import MATE_PODS, NOW, Scene, unheard
from tests.unit.status.test_diff import diff
from tests.unit.status.test_metrics import samples

AWAY = (
    "the cluster is not known yet, so nothing is changed here: its objects cannot be listed: Cannot connect to host "
    "10.96.0.1:443 ssl:default [Connection refused] (apiUnreachable, for 3 min)"
)


@pytest.fixture
def scene():
    return Scene()


def why(scene, now=NOW, **fields):
    return no_picture(scene.status(**fields), now)


def fail(scene, kind, text, *, reason="apiForbidden", only=None):
    """This watch, for a reason of its own."""
    problem = Problem(reason, f"watch of {only or kind}", text, f"Mend {kind}.")
    scene.watches = [it for it in scene.watches if it.kind is not kind]
    scene.problems = {it for it in scene.problems if it.subject != problem.subject} | {problem}
    scene.watches.append(WatchState(kind, healthy=False, fresh_at=NOW, problem=problem, only=only, broken_at=NOW - 7))


def test_the_phase_before_there_is_a_plan_is_the_loops():
    assert LISTING == Phase.LISTING


def test_with_a_picture_there_is_nothing_to_say(scene):
    assert why(scene) is None


def test_an_api_server_that_is_away_is_one_reason_with_its_error_for_how_long_and_what_to_do(scene):
    found = why(scene, **unheard(scene))

    assert (found.reason, found.subject, found.message) == ("pictureIncomplete", "Node worker-1", AWAY)
    assert found.fix == "Check that the API server runs and can be reached from this node."


def test_what_is_written_down_does_not_change_with_time(scene):
    fields = unheard(scene)

    assert why(scene, None, **fields).message == AWAY.replace(", for 3 min", "")
    assert [it.text for it in ailments(scene.status(**fields), NOW) if it.fatal] == [why(scene, None, **fields).message]


@pytest.mark.parametrize(("seconds", "words"), [(0, "0 s"), (119, "119 s"), (7199, "119 min"), (90_000, "25 h")])
def test_how_long_is_said_in_one_unit(scene, seconds, words):
    assert f", for {words})" in why(scene, **unheard(scene, seconds=seconds)).message


def test_of_several_reasons_that_of_most_watches_speaks_and_the_others_are_counted(scene):
    fields = unheard(scene)
    fail(scene, Kind.PEER, "cannot watch all BGPPeer objects: bgppeers is forbidden")
    found = why(scene, **fields)

    assert "EndpointSlice" in found.message
    assert "(apiUnreachable, for 3 min); 1 more in other words" in found.message


def test_one_watch_that_fails_is_named(scene):
    fields = unheard(scene)
    scene.watches = [WatchState(kind, healthy=True, fresh_at=NOW) for kind in ALWAYS_WATCHED]
    scene.problems.clear()
    fail(scene, Kind.PEER, "cannot watch all BGPPeer objects: bgppeers is forbidden")
    found = why(scene, **fields)

    assert found.message.endswith(": BGPPeer cannot be listed: bgppeers is forbidden (apiForbidden, for 7 s)")
    assert found.fix == "Mend BGPPeer."


def test_lists_that_have_not_come_yet_are_waited_for(scene):
    fields = unheard(scene)
    scene.watches.clear()
    scene.problems.clear()

    assert why(scene, **fields).message.endswith("here: its objects are being listed, for 3 min")


def test_an_object_that_nobody_can_read_is_named_with_its_fix(scene):
    fields = unheard(scene)
    scene.watches.clear()
    scene.problems = {
        Problem("malformedObject", "BGPInstance a", "spec.asn is 0: nothing is changed", "Set it."),
        Problem("malformedObject", "BGPPeer b", "spec.asn is 0: it is left out", "Set it, too."),
    }
    found = why(scene, **fields)

    assert found.message.endswith(": BGPInstance a: spec.asn is 0: nothing is changed (malformedObject)")
    assert found.fix == "Set it."


def test_a_secret_that_the_first_plan_waits_for_is_named(scene):
    """Everything is listed, and the API server goes away before the Secrets are read."""
    only = Key(Kind.SECRET, "bgpilot-system", "tor")
    fail(scene, Kind.SECRET, f"cannot watch {only}: it is away", reason="apiUnreachable", only=only)
    found = why(scene, phase="LISTING")

    assert found.message == (
        "the first plan is not made yet, so nothing is changed here: "
        f"{only} cannot be listed: it is away (apiUnreachable, for 7 s)"
    )


def test_a_plan_that_is_being_made_misses_nothing_of_the_cluster(scene):
    scene.identity = None
    scene.peers.clear()
    found = ailments(scene.status(phase="LISTING"), NOW)

    assert [it.reason for it in found] == ["pictureIncomplete"], "and not that there is no Node"


@pytest.mark.parametrize(
    ("subject", "kind"),
    [
        ("worker-1", "node"),
        ("Node worker-1", "node"),
        ("worker-2", "name"),
        (" Node worker-1 ", "node"),
        ("BGPPeer/tor-a", "peer"),
        ("default/web", "service"),
        ("192.0.2.254", "route"),
        ("10.9.0.0/16", "route"),
    ],
)
def test_whatever_is_asked_for_is_not_known_yet(scene, subject, kind):
    view = explained(scene.status(**unheard(scene)), subject, NOW)
    (hop,) = view["hops"]

    assert (view["kind"], view["ok"]) == (kind, False)
    assert (hop["reason"], hop["text"]) == ("pictureIncomplete", AWAY)


def test_what_the_kernel_has_for_an_address_is_said_all_the_same(scene):
    first, last = explained(scene.status(**unheard(scene)), "10.244.2.9", NOW)["hops"]

    assert (first["place"], first["ok"]) == ("kernel", True)
    assert first["text"] == "10.244.2.0/24 via 192.0.2.2 is there, and stays until there is a plan"
    assert last["reason"] == "pictureIncomplete"


def test_routes_of_the_kernel_are_kept_and_neither_wanted_nor_leaving(scene):
    status = scene.status(**unheard(scene))
    view = fib_view(status, NOW, prefix=MATE_PODS)

    assert [(row["prefix"], row["state"]) for row in view["rows"]] == [("10.244.2.0/24", "kept")]
    assert [it["reason"] for it in view["problems"]] == ["pictureIncomplete"]
    scene.fields |= unheard(scene)
    assert diff(scene)["rows"] == []


def test_a_gauge_of_what_nobody_knows_is_not_there(scene):
    unknown = ("fib_routes", "mesh_peers", "mesh_graceful_restarts_active", "rib_paths")
    assert all(samples(scene, f"bgpilot_{name}") for name in unknown)
    scene.fields |= unheard(scene)
    scene.kernel.is_read = False
    assert not any(samples(scene, f"bgpilot_{name}") for name in unknown)

    scene.kernel.is_read = True

    assert sum(samples(scene, "bgpilot_fib_routes").values()) == 2, "what is there"
