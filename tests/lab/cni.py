"""Pods made by real CNI plugins, called as a container runtime calls them: environment, configuration on stdin.

`conflist` is the content of a CNI configuration file (`{"cniVersion", "name", "plugins": [...]}`); the plugins run one
after the other in the node's namespace, each given the result of the one before; on removal in reverse order. Only
one thing is changed: host-local keeps its leases in the node's own directory, because the nodes of a lab share
the file system.
"""

import copy
import json
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_interface
from pathlib import Path
from typing import Any

from tests.lab.addresses import family_of
from tests.lab.machines import POD_BRIDGE, Node, settings
from tests.lab.netns import Family, Namespace
from tests.lab.procs import CommandFailedError

CNI_VERSION = "1.0.0"
INTERFACE = "eth0"


def bridge_conflist(node: Node) -> dict[str, Any]:
    """What a node's pod network is without any agent: a bridge, addresses out of the pod CIDRs, a default route."""
    ranges = [[{"subnet": str(cidr)}] for cidr in node.pod_cidrs.values()]
    bridge = {
        "type": "bridge",
        "bridge": POD_BRIDGE,
        "isDefaultGateway": True,
        "ipam": {"type": "host-local", "ranges": ranges},
    }
    return {"cniVersion": CNI_VERSION, "name": "lab", "plugins": [bridge]}


class CniPod(Namespace):
    """A pod whose network the plugins made; `result` is what they answered. `remove()` undoes it."""

    def __init__(self, node: Node, name: str, *, plugins: Path, conflist: Mapping[str, Any]) -> None:
        """`plugins` is the directory of the plugins' programs."""
        super().__init__(node.home, f"{node.name}.{name}")
        self.node = node
        self.plugins = plugins
        self.conflist = _with_own_leases(conflist, node)
        self.configure(sysctls=settings(node.site.families), ip=["link set lo up"])
        self.result: dict[str, Any] = {}
        for plugin in self.conflist["plugins"]:
            self.result = self._call("ADD", plugin)

    def address(self, family: Family | None = None) -> IPv4Address | IPv6Address:
        """Of the plugins' choice; without `family` the first they named."""
        addresses = [ip_interface(entry["address"]).ip for entry in self.result["ips"]]
        return next(address for address in addresses if family in (None, family_of(address)))

    def remove(self) -> None:
        for plugin in reversed(self.conflist["plugins"]):
            self._call("DEL", plugin)
        self.delete()

    def _call(self, command: str, plugin: Mapping[str, Any]) -> dict[str, Any]:
        """A plugin's failure is JSON on its stdout, and its exit code."""
        config = {"cniVersion": self.conflist["cniVersion"], "name": self.conflist["name"], **plugin}
        if self.result:
            config["prevResult"] = self.result
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": self.full_name,
            "CNI_NETNS": str(self.path),
            "CNI_IFNAME": INTERFACE,
            "CNI_PATH": str(self.plugins),
        }
        done = self.node.run([self.plugins / plugin["type"]], stdin=json.dumps(config), env=environment, check=False)
        if done.returncode != 0:
            raise CommandFailedError(f"CNI {plugin['type']} {command} for {self.full_name}: {done.stdout}{done.stderr}")
        answer: dict[str, Any] = json.loads(done.stdout) if done.stdout.strip() else {}
        return answer


def _with_own_leases(conflist: Mapping[str, Any], node: Node) -> dict[str, Any]:
    own = copy.deepcopy(dict(conflist))
    for plugin in own["plugins"]:
        if plugin.get("ipam", {}).get("type") == "host-local":
            plugin["ipam"]["dataDir"] = str(node.run_dir / "cni-leases")
    return own
