"""Which differences of a BGPNodeState are worth a write, the times of its conditions, and the patch."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.status.standing import dated, is_news, patch
from tests.lab.apistore import merged

STATE = {
    "heartbeatTime": "t0",
    "summary": {"peers": "1/1", "routes": "7/7", "problems": ""},
    "conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": ""}],
    "routes": {"heard": 7},
    "peers": [
        {
            "name": "BGPPeer/tor",
            "established": False,
            "state": "Active",
            "message": "refused",
            "received": 1,
            "sent": 2,
            "lastError": {"direction": "local", "text": "refused", "time": "t0"},
        }
    ],
    "resources": [
        {"kind": "BGPPeer", "name": "tor", "conditions": [{"type": "Ready", "status": "False", "reason": "noSession"}]}
    ],
}


def changed(*path_and_value):
    """A copy with this value at this path."""
    *path, last, value = path_and_value
    made = copy.deepcopy(STATE)
    place = made
    for step in path:
        place = place[step]
    place[last] = value
    return made


@pytest.mark.parametrize(
    "after",
    [
        changed("heartbeatTime", "t1"),
        changed("routes", "heard", 8),
        changed("summary", "routes", "8/8"),
        changed("peers", 0, "state", "Connect"),
        changed("peers", 0, "received", 9),
        changed("peers", 0, "lastError", "time", "t1"),
        changed("peers", 0, "lastError", "text", "timed out"),
        changed("conditions", 0, "message", "801 of 1000"),
    ],
    ids=lambda after: next(f"{key}" for key in after if after[key] != STATE[key]),
)
def test_what_changes_all_the_time_is_no_news(after):
    assert not is_news(STATE, after)


@pytest.mark.parametrize(
    "after",
    [
        changed("peers", 0, "established", True),
        changed("peers", 0, "lastError", None),
        changed("peers", []),
        changed("summary", "peers", "0/1"),
        changed("conditions", 0, "status", "False"),
        changed("conditions", 0, "reason", "sessionDown"),
        changed("resources", []),
        changed("zone", "rack-7"),
    ],
    ids=lambda after: next(f"{key}" for key in after if after.get(key) != STATE.get(key)),
)
def test_what_an_operator_wants_to_know_is_news(after):
    if after["peers"] and after["peers"][0]["lastError"] is None:
        del after["peers"][0]["lastError"]

    assert is_news(STATE, after)


def test_a_condition_keeps_its_time_while_its_status_stays():
    first = dated(STATE, {}, "t1")
    later = dated(changed("conditions", 0, "reason", "sessionDown"), first, "t2")

    assert later["conditions"][0]["lastTransitionTime"] == "t1"
    assert later["conditions"][0]["reason"] == "sessionDown"


def test_a_condition_gets_a_new_time_when_its_status_changes():
    first = dated(STATE, {}, "t1")
    later = dated(changed("resources", 0, "conditions", 0, "status", "True"), first, "t2")

    assert later["resources"][0]["conditions"][0]["lastTransitionTime"] == "t2"
    assert later["conditions"][0]["lastTransitionTime"] == "t1"


def test_an_object_that_is_new_has_times_of_its_own():
    first = dated(changed("resources", []), {}, "t1")
    later = dated(STATE, first, "t2")

    assert later["resources"][0]["conditions"][0]["lastTransitionTime"] == "t2"


def test_a_heartbeat_is_a_patch_of_one_member():
    assert patch(STATE, changed("heartbeatTime", "t1")) == {"heartbeatTime": "t1"}


_VALUES = st.recursive(
    st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
_OBJECTS = st.dictionaries(st.sampled_from("abcd"), _VALUES, max_size=4)


@given(_OBJECTS, _OBJECTS)
def test_the_patch_makes_one_into_the_other(before, after):
    assert merged(before, patch(before, after)) == after
