"""The real kube-proxy on a node of the lab, in nftables mode.

It refuses to run outside a lab's namespace: the rules it writes would be the machine's.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from tests.lab.gobuild import binary
from tests.lab.netns import Namespace
from tests.lab.procs import Process
from tests.lab.wait import wait_until

READY_SECONDS = 60.0


def start_kube_proxy(node: Namespace, *, node_name: str, kubeconfig: Path, pod_cidrs: Sequence[str] = ()) -> Process:
    """Returns when its first rules are in the kernel; it ends with the lab, or by `stop()`, which leaves its rules.

    `node_name` is the Node's name in the API, whose InternalIPs kube-proxy takes as its own addresses. `pod_cidrs` are
    the cluster's, at most one of each family: what comes from elsewhere to a cluster IP is masqueraded. Without them
    nothing is.
    """
    detect = ["--detect-local-mode=ClusterCIDR", f"--cluster-cidr={','.join(pod_cidrs)}"] if pod_cidrs else []
    process = node.start(
        [
            binary("kube-proxy"),
            "--proxy-mode=nftables",
            f"--kubeconfig={kubeconfig}",
            f"--hostname-override={node_name}",
            # The sizes of the connection tracking table are the machine's, and may not be set from a namespace.
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
            *detect,
        ],
        log="kube-proxy",
    )
    wait_until(lambda: _has_rules(node, process), within=READY_SECONDS)
    return process


def _has_rules(node: Namespace, process: Process) -> bool:
    if not process.alive:  # not an AssertionError, which would mean "not yet"
        raise RuntimeError(f"kube-proxy ended with {process.popen.returncode}:\n{process.tail()}")
    tables = json.loads(node.run(["nft", "--json", "list", "tables"]).stdout)["nftables"]
    return any(entry.get("table", {}).get("name") == "kube-proxy" for entry in tables)
