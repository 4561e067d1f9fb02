"""Pods of the lab that the real CNI plugins make, as a container runtime would have them made."""

from pathlib import Path

import pytest

from tests.lab.cni import CniPod, bridge_conflist
from tests.lab.gobuild import CNI_PLUGINS, binary
from tests.lab.pods import ping
from tests.lab.procs import CommandFailedError
from tests.lab.topology import DUAL_STACK
from tests.live.conftest import LabFactory

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="session")
def plugins() -> Path:
    return {binary(name).parent for name in CNI_PLUGINS}.pop()  # all are built, into one folder


def test_the_plugins_give_a_pod_an_address_of_each_pod_cidr_and_a_way_out(lab: LabFactory, plugins: Path) -> None:
    net = lab(nodes=1, pod_bridge=False)
    node = net.node(1)

    pod = CniPod(node, "web", plugins=plugins, conflist=bridge_conflist(node))
    net.add_static_pod_routes()

    for family in DUAL_STACK:
        assert pod.address(family) in node.pod_cidrs[family]
        assert ping(net.client, pod.address(family))


def test_nodes_of_one_lab_lease_addresses_apart(lab: LabFactory, plugins: Path) -> None:
    net = lab(nodes=2, pod_bridge=False)
    pods = [
        CniPod(node, name, plugins=plugins, conflist=bridge_conflist(node))
        for node in net.nodes.values()
        for name in ("one", "two")
    ]

    assert len({pod.address() for pod in pods}) == 4
    assert [int(pod.address()) & 0xFF for pod in pods] == [2, 3, 2, 3]


def test_a_removed_pod_gives_its_address_back(lab: LabFactory, plugins: Path) -> None:
    net = lab(nodes=1, pod_bridge=False)
    node = net.node(1)
    pod = CniPod(node, "web", plugins=plugins, conflist=bridge_conflist(node))
    leases = node.run_dir / "cni-leases" / "lab"
    assert (leases / str(pod.address())).exists()

    pod.remove()

    assert not (leases / str(pod.address())).exists()
    assert [link["ifname"] for link in node.ip_json("link", "show", "type", "veth")] == ["eth0"]


def test_a_plugin_that_refuses_tells_why(lab: LabFactory, plugins: Path) -> None:
    net = lab(nodes=1, pod_bridge=False)
    node = net.node(1)
    conflist = bridge_conflist(node)
    conflist["plugins"][0]["ipam"] = {"type": "host-local", "ranges": [[{"subnet": "no subnet"}]]}

    with pytest.raises(CommandFailedError, match=r"CNI bridge ADD for [^{]*\{[^}]*no subnet"):
        CniPod(node, "web", plugins=plugins, conflist=conflist)
