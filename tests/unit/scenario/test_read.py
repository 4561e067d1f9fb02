"""A scenario that somebody has edited: read as it is meant, or refused with where, what and how else."""

from __future__ import annotations

import gzip
import io
import tarfile
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from agent.model import Applied, Kind, Malformed
from agent.scenario.files import load
from agent.scenario.form import ScenarioError
from agent.scenario.offline import planned
from agent.scenario.read import read_document, read_text
from bgp.model import EndOfRib, Family, PathsHeard, SessionUp

NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "a"},
    "spec": {"podCIDRs": ["10.244.1.0/24"]},
    "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]},
}
TEXT = "node: a\ncluster:\n  - {apiVersion: v1, kind: Node, metadata: {name: a}}\n"


def refusal(**members):
    with pytest.raises(ScenarioError) as error:
        read_document({"node": "a", **members})
    return str(error.value)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"cluster": {}}, "cluster = {} is not a list: make it a list"),
        ({"cluster": [{"kind": "Pod"}]}, "cluster[0].kind = 'Pod' is not known: remove the object"),
        ({"interfaces": [{"name": "eth0"}]}, "interfaces[0].index is missing: set it to a number"),
        (
            {"interfaces": [{"index": 2, "name": "eth0", "addresses": ["10.0.0.1/33"]}]},
            "interfaces[0].addresses[0] = '10.0.0.1/33' is no address with a prefix length: write it as 192.0.2.1/24",
        ),
        ({"heard": [{"peer": "tor"}]}, "heard[0].peer = 'tor' is not an IP address"),
        (
            {"heard": [{"peer": "10.0.0.2", "routes": [{"nextHop": "10.0.0.2", "prefixes": ["x"]}]}]},
            "heard[0].routes[0].prefixes[0] = 'x' is not a prefix",
        ),
        (
            {"heard": [{"peer": "10.0.0.2", "session": {"families": ["ipv5"]}}]},
            "heard[0].session.families[0] = 'ipv5' is no address family: set it to ipv4 or ipv6",
        ),
        ({"heard": [{"peer": "10.0.0.2", "session": {"ended": "soon"}}]}, "session.ended = 'soon' is not known: set"),
        ({"gateways": [{"family": "ipv4", "address": "10.0.0.254"}]}, "gateways[0].interface is missing"),
        ({"notRead": [{"kind": "BGPPeer"}]}, "notRead[0].name is missing"),
        ({"before": {"small": [{}]}}, "before.small[0].asn is missing"),
        ({"hears": []}, "unknown members hears: known are "),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place_and_the_fix(members, said):
    assert said in refusal(**members)


def test_what_is_no_scenario_at_all_is_said():
    with pytest.raises(ScenarioError, match="it must be an object with `node` and `cluster`"):
        read_text("[1, 2]")


def test_text_that_is_no_json_is_named_by_line_and_column():
    with pytest.raises(ScenarioError, match="line 2, column 1: no JSON"):
        read_text('{"node": "a",\n')


@pytest.mark.parametrize("text", ['{{"node": "a", "cluster": {}}}', "node: a\ncluster: {}\n"], ids=["json", "yaml"])
def test_what_is_nested_deeper_than_we_can_go_is_refused_and_ends_nothing(text):
    with pytest.raises(ScenarioError, match="it is nested too deep"):
        read_text(text.format("[" * 1_000_000 + "]" * 1_000_000))


def test_aliases_that_mean_more_than_anybody_writes_are_refused_and_few_are_read():
    laughs = "".join(f"a{at}: &a{at} [{', '.join([f'*a{at - 1}'] * 9)}]\n" for at in range(1, 30))
    few = "node: a\ncluster: [&a {kind: Node, metadata: {name: b}}, *a]\n"

    assert len(read_text(few).events) == 2
    for long in (f"a0: &a0 [x]\n{laughs}", f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 200)}]\n"):
        with pytest.raises(
            ScenarioError, match=r"^no scenario: with its aliases \(\*name\) written out it has more than 1\d{7} ch"
        ):
            read_text(long)
    with pytest.raises(ScenarioError, match=r"^no scenario: what begins in line 2 contains itself"):
        read_text("node: a\ncluster: &a [{kind: List, items: *a}]\n")


@pytest.mark.parametrize(
    ("text", "says"), [('{"node": ' + "1" * 5000, "no JSON: Exceeds"), ("node: 2026-05-32", "no YAML")]
)
def test_a_value_that_is_none_of_its_kind_is_named(text, says):
    with pytest.raises(ScenarioError, match=says):
        read_text(text)


def test_text_that_is_no_yaml_is_named_by_line():
    with pytest.raises(ScenarioError, match=r"no YAML: .* line 2"):
        read_text("node: a\n  cluster: [\n")


def test_a_list_as_kubectl_prints_it_is_its_items():
    found = read_document({"node": "a", "cluster": [{"kind": "List", "items": [NODE, NODE]}]})

    assert [event.key.name for event in found.events] == ["a", "a"]


def test_an_object_that_cannot_be_read_is_left_out_and_the_others_are_not():
    broken = {**NODE, "metadata": {"name": "b"}, "spec": {"podCIDRs": ["x"]}}
    first, second = read_document({"node": "a", "cluster": [broken, NODE]}).events

    assert isinstance(first, Malformed)
    assert isinstance(second, Applied)


def test_what_an_agent_could_not_read_is_a_problem_again():
    bad = {"kind": "BGPPeer", "name": "bad", "reason": "malformedObject", "message": "spec is odd", "fix": "Mend it."}
    (event,) = read_document({"node": "a", "notRead": [bad]}).events

    assert (event.key.kind, event.problem.subject, event.problem.fix) == (Kind.PEER, "BGPPeer bad", "Mend it.")


def test_a_peer_that_has_told_all_has():
    (events,) = read_document({"node": "a", "heard": [{"peer": "10.0.0.2", "session": {"endOfRIB": ["ipv4"]}}]}).events

    assert events[-1] == EndOfRib(ip_address("10.0.0.2"), Family.IPV4)


def test_ipv4_in_the_clothes_of_ipv6_stays_what_was_told():
    told = {"prefixes": ["::ffff:10.0.0.0/104"], "nextHop": "fd00::1"}
    ((up, heard),) = read_document({"node": "a", "heard": [{"peer": "fd00::1", "routes": [told]}]}).events

    assert isinstance(up, SessionUp)
    assert isinstance(heard, PathsHeard)
    assert heard.announced[0][1] == (ip_network("::ffff:10.0.0.0/104"),)


# Files.


def archive(path: Path, **members: str) -> Path:
    with tarfile.open(path, "w:gz") as file:
        for name, text in members.items():
            info = tarfile.TarInfo(f"bgpilot-a/{name}.json")
            info.size = len(text)
            file.addfile(info, io.BytesIO(text.encode()))
    return path


def test_a_scenario_is_found_in_an_archive(tmp_path: Path):
    assert load(archive(tmp_path / "a.tar.gz", status="{}", scenario=TEXT)).node == "a"


def test_a_compressed_scenario_is_read(tmp_path: Path):
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(TEXT.encode()))

    assert load(tmp_path / "a.json.gz").node == "a"


def test_an_archive_without_a_scenario_says_why(tmp_path: Path):
    with pytest.raises(ScenarioError, match=r"a\.tar\.gz: the archive has no scenario\.json: the agent did not answer"):
        load(archive(tmp_path / "a.tar.gz", status="{}"))


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", gzip.compress(b"node: a")[:15], b"\x1f\x8b rubbish"])
def test_bytes_that_are_no_text_are_refused_with_the_files_name(tmp_path: Path, content: bytes):
    (tmp_path / "odd").write_bytes(content)

    with pytest.raises(ScenarioError, match="odd: "):
        load(tmp_path / "odd")


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(ScenarioError, match="missing: No such file or directory"):
        load(tmp_path / "missing")


# For whom.


def test_another_node_of_the_cluster_is_planned_without_what_only_the_first_one_knows():
    other = {
        **NODE,
        "metadata": {"name": "b"},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.2"}]},
    }
    other["spec"] = {"podCIDRs": ["10.244.2.0/24"]}
    file = {"cluster": [NODE, other], "interfaces": [{"index": 2, "name": "eth0", "addresses": ["10.0.0.1/24"]}]}
    found = planned(read_document({"node": "a", **file}), "b")

    assert set(found.plan.originated) == {ip_network("10.244.2.0/24")}
    assert "neither interfaces nor what it was told are known" in found.notes[0]


def test_a_node_that_the_cluster_does_not_have_is_refused_with_those_that_it_has():
    with pytest.raises(ScenarioError, match="it has no Node c: name one of a"):
        planned(read_document({"node": "a", "cluster": [NODE]}), "c")
