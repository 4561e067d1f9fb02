"""`bgpilot tech-support` on a node where much is wrong: what is asked of its file is answered as the agent answered.
Without an agent, or without `ip`, there still is a file.

The tests share a cluster and run in order; the agent is stopped at the end.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agent.cli.app import app
from tests.lab.frr import Frr
from tests.lab.minicluster import (
    BGPILOT,
    CLUSTER_ASN,
    LAB_HOLD_SECONDS,
    OUR_PROTOCOL,
    ROUTER_ASN,
    Agent,
    MiniCluster,
    custom,
    service_object,
    slice_object,
    tor_peer,
)
from tests.lab.neighbor import Neighbor
from tests.lab.topology import Lab
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

LEARNED, TAKEN, UNWANTED = "198.51.100.0/24", "198.51.101.0/24", "203.0.113.0/24"
WEB, LOCAL, QUIET = "10.96.0.80", "192.0.2.80", "10.96.0.82"
ABSENT, SHUT, SECRETLESS = "10.99.0.6", "10.99.0.7", "10.99.0.8"
PASSWORD = "rohrdommel-6021-of-the-router"


class Scene:
    """Two nodes and a router; routers that are not there, must not be, or have no password; Services with and without
    a way out; a route of somebody else in the place of one that was heard.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.cluster = MiniCluster(lab)
        self.node, self.other = lab.node(1), lab.node(2)
        self._objects()
        nodes = [Neighbor(str(node.address()), CLUSTER_ASN, password=PASSWORD) for node in lab.nodes.values()]
        announced = [LEARNED, TAKEN, UNWANTED]
        self.frr = Frr(lab.router, asn=ROUTER_ASN, router_id="10.99.0.1", neighbors=nodes, announce=announced)
        self.node.run(["ip", "route", "add", "unreachable", TAKEN, "proto", "static"])
        self.cluster.start()
        wait_until(self.settled, within=90)

    def _objects(self) -> None:
        allowed = {"allowed": [{"prefix": "198.51.0.0/16", "le": 24}]}
        self.cluster.api.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"namespace": "bgpilot-system", "name": "tor"},
                "data": {"md5": _encoded(PASSWORD)},
            },
            custom("BGPInstance", "default", {"mesh": {"holdSeconds": LAB_HOLD_SECONDS}}),
            tor_peer(self.lab.router, passwordSecretRef={"name": "tor", "key": "md5"}, **{"import": allowed}),
            custom("BGPPeer", "absent", {"address": ABSENT, "asn": 65010}),
            custom("BGPPeer", "shut", {"address": SHUT, "asn": 65011, "shutdown": True, "shutdownText": "moves"}),
            custom(
                "BGPPeer",
                "secretless",
                {"address": SECRETLESS, "asn": 65012, "passwordSecretRef": {"name": "none", "key": "md5"}},
            ),
            custom(
                "BGPPeer",
                "elsewhere",
                {"address": "10.99.0.9", "asn": 65013, "nodeSelector": {"matchLabels": {"rack": "b"}}},
            ),
            custom(
                "BGPAdvertisement",
                "web",
                {"type": "Service", "service": {"addresses": ["ClusterIP", "LoadBalancerIP"]}},
            ),
            custom("BGPAdvertisement", "static", {"type": "Prefix", "prefixes": ["203.0.113.128/25"]}),
            service_object("web", [WEB]),
            service_object("local", ["10.96.0.81"], load_balancer_ips=[LOCAL], external_policy="Local"),
            service_object("outside", [QUIET], external_ips=["192.0.2.99"]),
            slice_object("local", {"node-2": ["10.244.2.9"]}),
        )
        self.cluster.api.apply(custom("BGPPeer", "broken", {"address": "nowhere", "asn": 65014}), checked=False)

    def settled(self) -> bool:
        status, peers = self.agent.view("status"), self.agent.view("peers")["peers"]
        assert status["phase"] in {"IN_SYNC", "WORKING"}, status["phase"]
        assert peers[str(self.lab.router.address())]["is_up"]
        assert peers[str(self.other.address())]["is_up"]
        assert LEARNED in self.cluster.learned(self.node, "ipv4")
        assert f"{WEB}/32" in self.frr.routes("ipv4")
        assert self.agent.view("explain", subject=ABSENT)["hops"][-1]["reason"] == "notEstablished"
        return True

    @property
    def agent(self) -> Agent:
        return self.cluster.agent(self.node)

    @property
    def subjects(self) -> list[str]:
        router = [str(self.lab.router.address()), "tor", "BGPPeer/tor"]
        peers = [*router, "node-2", str(self.other.address()), "absent", ABSENT, "shut", "secretless", "elsewhere"]
        pods = [str(cidr) for node in (self.node, self.other) for cidr in node.pod_cidrs.values()]
        prefixes = [*pods, LEARNED, TAKEN, UNWANTED, "198.51.100.7", "203.0.113.128/25", "0.0.0.0/0", "192.0.2.1"]
        services = ["default/web", "default/local", "default/outside", "default/none", WEB, LOCAL, QUIET, "192.0.2.99"]
        return [*peers, "broken", "BGPPeer broken", *prefixes, *services]

    def explained(self) -> dict[str, Any]:
        return {subject: self.agent.view("explain", subject=subject) for subject in self.subjects}


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Lab(nodes=2, routers=1) as lab:
        built = Scene(lab)
        yield built
        built.cluster.close()


def parts_of(file: Path) -> dict[str, str]:
    with tarfile.open(file) as archive:
        return {it.name.partition("/")[2]: archive.extractfile(it).read().decode() for it in archive if it.isfile()}  # type: ignore[union-attr]


def offline(file: Path, subject: str) -> Any:
    said = CliRunner().invoke(app, ["explain", "--from", str(file), subject, "-o", "json"])
    assert said.exit_code in {0, 3}, said.output
    return json.loads(said.stdout)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # the agent has ended what did not answer for long
            os.kill(pid, signal.SIGCONT)


def test_what_the_file_explains_is_what_the_agent_explained(scene: Scene, tmp_path: Path) -> None:
    """While ExaBGP stands still, so that nothing happens: the router that is not there is dialed again and again."""

    def collected() -> tuple[Path, dict[str, Any]]:
        file = tmp_path / f"{len(list(tmp_path.iterdir()))}.tar.gz"
        with stopped(scene.agent.exabgp()):
            explained = scene.explained()
            done = scene.agent.cli("tech-support", "-o", str(file))
            assert done.returncode == 0, done.stderr
            assert scene.explained() == explained, "what ExaBGP had said before is still on its way"
        return file, explained

    file, explained = wait_until(collected, within=120)
    said = {subject: offline(file, subject) for subject in scene.subjects}

    assert said == explained
    reasons = {hop["reason"] for answer in said.values() for hop in answer["hops"]}
    assert reasons >= {
        "importNotAllowed",
        "kernelConflict",
        "nodeNotSelected",
        "notEstablished",
        "secretMissing",
        "shutdown",
    }


def test_what_the_file_plans_is_what_the_agent_has_done(scene: Scene, tmp_path: Path) -> None:
    wait_until(scene.settled, within=90)
    file = tmp_path / "file.tar.gz"
    assert scene.agent.cli("tech-support", "-o", str(file)).returncode == 0
    said = CliRunner().invoke(app, ["plan", "--from", str(file), "-o", "json"])
    assert said.exit_code == 0, said.output
    plan = json.loads(said.stdout)

    told, fib = scene.agent.view("routes", side="advertised")["rows"], scene.agent.view("fib")["rows"]
    assert _keys(plan["told"]) | _keys(plan["not_told"]) == _keys(told)
    assert {(it["prefix"], it["metric"]) for it in plan["kernel"]} == {(it["prefix"], it["metric"]) for it in fib}
    assert {it["address"] for it in plan["peers"]} == scene.agent.view("peers")["peers"].keys()
    assert [it["subject"] for it in plan["not_read"]] == ["BGPPeer broken"]


def _keys(rows: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(row["peer"], row["prefix"]) for row in rows}


def test_it_has_the_kernels_tables_and_no_password(scene: Scene, tmp_path: Path) -> None:
    """The control: ExaBGP's own file has the password."""
    assert _encoded(PASSWORD) in (scene.agent.run_dir / "exabgp.conf").read_text()
    file = tmp_path / "file.tar.gz"
    scene.agent.cli("tech-support", "-o", str(file))
    parts = parts_of(file)

    routes = {route["dst"]: route["protocol"] for route in json.loads(parts["kernel/route4.json"])}
    assert (routes[LEARNED], routes[TAKEN]) == (OUR_PROTOCOL, "static")
    assert "eth0" in {link["ifname"] for link in json.loads(parts["kernel/link.json"])}
    assert json.loads(parts["kernel/sysctls.json"])["net/ipv4/ip_forward"] == "1"
    assert "neighbor" in parts["exabgp.conf"]
    assert not [name for name, text in parts.items() if PASSWORD in text or _encoded(PASSWORD) in text]


def test_where_there_is_no_ip_the_kernel_itself_is_asked(scene: Scene, tmp_path: Path) -> None:
    file, without = tmp_path / "file.tar.gz", f"PATH={tmp_path}"
    command = ["env", without, BGPILOT, "tech-support", "-o", file, f"--run-dir={scene.agent.run_dir}"]
    done = scene.node.run(command, check=False)
    found = json.loads(parts_of(file)["kernel/netlink.json"])

    assert done.returncode == 0, done.stderr
    ours = {route["RTA_DST"] for route in found["route"] if route["proto"] == int(OUR_PROTOCOL) and "RTA_DST" in route}
    assert LEARNED.partition("/")[0] in ours
    assert "eth0" in {link["IFLA_IFNAME"] for link in found["link"]}
    assert found["rule"]
    assert str(scene.node.address()) in {address["IFA_ADDRESS"] for address in found["address"]}


def test_without_the_agent_the_kernel_and_the_configuration_are_in_it(scene: Scene, tmp_path: Path) -> None:
    file = tmp_path / "file.tar.gz"
    scene.agent.stop()
    done = scene.agent.cli("tech-support", "-o", str(file))
    parts = parts_of(file)

    assert done.returncode == 3
    assert " and scenario.json are missing: no agent answers on" in done.stderr
    assert LEARNED in {route["dst"] for route in json.loads(parts["kernel/route4.json"])}
    assert "exabgp.conf" in parts
    assert not [name for name, text in parts.items() if PASSWORD in text or _encoded(PASSWORD) in text]
