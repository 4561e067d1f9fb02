"""Where it happens: nodes with agents of both kinds, FRR and BIRD, the embedded API; and what can be done to them.

It does what events say and judges nothing, but that no agent ends by itself, nor with an error when it is asked to end.
"""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

from tests.lab.bird import Bird
from tests.lab.frr import Frr
from tests.lab.judges import Judges
from tests.lab.minicluster import (
    BGPILOT,
    LAB_HOLD_SECONDS,
    OUR_PROTOCOL,
    MiniCluster,
    custom,
    node_object,
    service_object,
    slice_object,
)
from tests.lab.netns import FAMILY_FLAG, Family
from tests.lab.procs import Process
from tests.lab.soak.state import FIXED, LEARNED, Cable, State, Who
from tests.lab.topology import Lab, Node

FAMILIES: tuple[Family, Family] = ("ipv4", "ipv6")
TYPES = {"ipv4": "IPv4", "ipv6": "IPv6"}
VIPS = {"ipv4": "198.51.100.{}", "ipv6": "2001:db8:77::{}"}
DIAL_SECONDS = 2
END_SECONDS = 90.0
"""It takes 2 s on a machine that has time for it."""


class EndedError(Exception):
    """A process of ours has ended by itself, or not in order."""


class Site:
    """`state` is what the events so far have made of it: whoever draws an event changes it, then applies the event."""

    def __init__(self, lab: Lab, state: State) -> None:
        self.lab = lab
        self.state = state
        self.judges = Judges(lab, named=True)
        self.cluster = MiniCluster(lab)
        self.api = self.cluster.api
        self._speakers: dict[int, Process] = {}
        self._frozen: dict[tuple[int, Who], int] = {}
        """A pidfd of each."""
        self._log_sizes: dict[int, int] = {}
        """Of agents, when they were started last."""
        self.mesh(state.mesh)
        self.advertise(state.med)
        self.api.apply(custom("BGPAdvertisement", "fixed", {"type": "Prefix", "prefixes": list(FIXED)}))
        for router in state.peers:
            self.peer(router)
        self.api.apply(*(node_object(node) for node in lab.nodes.values()))
        for number in sorted(state.machines):
            self._start_pod(number)

    def close(self) -> None:
        for node, who in list(self._frozen):
            self.thaw(node, who)
        self.cluster.close()

    def require_well(self) -> None:
        """Every process of ours runs that shall run; no AssertionError, since to wait is no use."""
        agents = [self.agent_process(node) for node in sorted(self.state.machines - self.state.away)]
        for process in (*agents, *self._speakers.values()):
            if not process.alive:
                raise EndedError(f"{process} has ended\n{process.tail()}")

    def router(self, name: str) -> Frr | Bird:
        return self.judges.frr if name == "frr" else self.judges.bird

    def agent_process(self, node: int) -> Process:
        return self.cluster.agent(self.lab.node(node)).process

    def exabgp(self, node: int) -> int | None:
        """Its pid; None while there is none."""
        parent = self._speakers[node] if node in self._speakers else self.agent_process(node)
        with suppress(OSError):
            for pid in Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split():
                if b"bgp.inside.launcher" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return int(pid)
        return None

    # Nodes.

    def add_machine(self, number: int) -> None:
        self.lab.add_node(number)
        self.make_known(number)
        self._start_pod(number)

    def remove_machine(self, number: int) -> None:
        node = self.lab.node(number)
        run_dir = self.cluster.agent(node).run_dir
        for who in Who:
            self._let_go(number, who)
        self._speakers.pop(number, None)
        if f"node-{number}" in {found["metadata"]["name"] for found in self.api.list("Node")}:
            self.api.delete("Node", node.name)
        del self.cluster.agents[node.name]
        self.lab.remove_node(node)
        self.lag(number, 0)
        shutil.rmtree(run_dir)

    def make_known(self, number: int) -> None:
        """The Node object as it must be now."""
        found = node_object(self.lab.node(number))
        if number in self.state.drained:
            found["metadata"]["annotations"] = {"bgpilot.io/drain": "soaked"}
        self.api.apply(found)

    def delete(self, kind: str, name: str, namespace: str = "") -> None:
        self.api.delete(kind, name, namespace)

    # Services, peers.

    def serve(self, service: int, *, local: bool) -> None:
        clusters = [f"10.96.0.{service}", f"fd02::{service}"]
        policy = "Local" if local else "Cluster"
        self.api.apply(
            service_object(f"web-{service}", clusters, load_balancer_ips=vips(service), external_policy=policy)
        )

    def place_endpoints(self, service: int) -> None:
        nodes = sorted(node for of, node in self.state.endpoints if of == service)
        for family in FAMILIES:
            places = {
                f"node-{node}": [f"10.244.{node}.9" if family == "ipv4" else f"fd10:244:{node}::9"] for node in nodes
            }
            self.api.apply(slice_object(f"web-{service}", places, family=TYPES[family]))

    def advertise(self, med: int) -> None:
        spec = {"type": "Service", "service": {"addresses": ["LoadBalancerIP"]}, "attributes": {"med": med}}
        self.api.apply(custom("BGPAdvertisement", "vips", spec))

    def mesh(self, mode: str) -> None:
        spec = {"mode": mode, "holdSeconds": LAB_HOLD_SECONDS, "reflectors": {"threshold": 1}}
        self.api.apply(custom("BGPInstance", "default", {"mesh": spec}))

    def peer(self, router: str) -> None:
        allowed = {"allowed": [{"prefix": prefix} for prefix in LEARNED]}
        self.api.apply(self.judges.peer(router, connectRetrySeconds=DIAL_SECONDS, **{"import": allowed}))

    def clear_sessions(self, router: str) -> None:
        if router == "frr":
            self.judges.frr.vtysh("clear bgp *")
        else:
            self.judges.bird.birdc("restart all")

    # Processes.

    def end_agent(self, number: int, *, killed: bool) -> None:
        agent = self.cluster.agent(self.lab.node(number))
        if killed:
            agent.kill()
        else:
            agent.process.terminate()
            code = agent.process.wait(within=END_SECONDS)
            begun = agent.process.log.stat().st_size > self._log_sizes.get(number, 0)
            if code != 0 and (begun or code != -signal.SIGTERM):  # Python itself takes a moment to start
                raise EndedError(f"{agent.process} has ended with {code}\n{agent.process.tail()}")
        self._let_go(number, Who.AGENT)

    def start_agent(self, number: int) -> None:
        self._see_log(number)
        self.cluster.agent(self.lab.node(number)).restart()

    def _see_log(self, number: int) -> None:
        log = self.lab.node(number).run_dir / "agent.log"
        self._log_sizes[number] = log.stat().st_size if log.exists() else 0

    def end_exabgp(self, number: int, *, killed: bool) -> None:
        self._let_go(number, Who.EXABGP)
        if (pid := self.exabgp(number)) is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if killed else signal.SIGTERM)

    def replace_speaker(self, number: int) -> None:
        self._let_go(number, Who.EXABGP)
        self._speakers[number].stop()
        self._start_speaker(number)

    def freeze(self, number: int, who: Who) -> None:
        pid = self.agent_process(number).pid if who is Who.AGENT else self.exabgp(number)
        if pid is not None:
            with suppress(ProcessLookupError):
                self._frozen[number, who] = os.pidfd_open(pid)
                signal.pidfd_send_signal(self._frozen[number, who], signal.SIGSTOP)

    def thaw(self, number: int, who: Who) -> None:
        self._let_go(number, who)

    def _let_go(self, number: int, who: Who) -> None:
        """Whether it is still there or not."""
        if (pidfd := self._frozen.pop((number, who), None)) is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGCONT)
            os.close(pidfd)

    def _start_pod(self, number: int) -> None:
        node, beside = self.lab.node(number), number in self.state.cast.beside
        self._see_log(number)
        self.cluster.start_agent(node, *(["--speaker=external"] if beside else []))
        if beside:
            self._start_speaker(number)

    def _start_speaker(self, number: int) -> None:
        node = self.lab.node(number)
        run_dir = self.cluster.agent(node).run_dir
        self._speakers[number] = node.start([BGPILOT, "speaker", f"--run-dir={run_dir}"], log="speaker")

    # The API server, cables, the kernel.

    def lag(self, number: int, seconds: float) -> None:
        addresses = self.lab.rack1.address
        self.api.hold_back(*(str(addresses(10 + number, family)) for family in FAMILIES), seconds=seconds)

    def break_cable(self, number: int, how: Cable) -> None:
        node = self.lab.node(number)
        match how:
            case Cable.DOWN:
                node.link_down()
            case Cable.UNPLUGGED:
                node.unplug()
            case Cable.ADDRESSLESS:
                self._addresses(node, "del")

    def mend_cable(self, number: int) -> None:
        """Whatever is broken."""
        node = self.lab.node(number)
        node.plug()
        node.ip("link", "set", "eth0", "up")
        self._addresses(node, "replace")
        node.add_default_routes()

    def foreign_route(self, number: int, verb: str, prefix: str) -> None:
        node, family = self.lab.node(number), family_of_prefix(prefix)
        node.ip(FAMILY_FLAG[family], "route", verb, "blackhole", prefix, "proto", "static")

    def flush(self, number: int) -> None:
        for family in FAMILIES:
            self.lab.node(number).ip(FAMILY_FLAG[family], "route", "flush", "proto", OUR_PROTOCOL)

    def _addresses(self, node: Node, verb: str) -> None:
        for family in FAMILIES:
            nodad = ["nodad"] if (family, verb) == ("ipv6", "replace") else []
            node.ip("address", verb, str(node.subnet.interface(node.number, family)), "dev", "eth0", *nodad)


def vips(service: int) -> list[str]:
    return [vip.format(service) for vip in VIPS.values()]


def family_of_prefix(prefix: str) -> Family:
    return "ipv6" if ":" in prefix else "ipv4"
