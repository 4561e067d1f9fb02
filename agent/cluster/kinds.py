"""Where each watched kind lives in the API: its apiVersion, its plural, its path.

Nothing here is asked of a server: discovery would be one more thing that can fail, and these names do not change.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from agent.model import (
    BGPILOT_GROUP,
    BGPILOT_VERSION,
    Key,
    Kind,
)


class Resource(NamedTuple):
    group: str
    """Empty for the core group."""
    version: str
    plural: str


RESOURCES: Final = {
    Kind.NODE: Resource("", "v1", "nodes"),
    Kind.NAMESPACE: Resource("", "v1", "namespaces"),
    Kind.SERVICE: Resource("", "v1", "services"),
    Kind.ENDPOINT_SLICE: Resource("discovery.k8s.io", "v1", "endpointslices"),
    Kind.SERVICE_CIDR: Resource("networking.k8s.io", "v1", "servicecidrs"),
    Kind.INSTANCE: Resource(BGPILOT_GROUP, BGPILOT_VERSION, "bgpinstances"),
    Kind.PEER: Resource(BGPILOT_GROUP, BGPILOT_VERSION, "bgppeers"),
    Kind.ADVERTISEMENT: Resource(BGPILOT_GROUP, BGPILOT_VERSION, "bgpadvertisements"),
    Kind.SECRET: Resource("", "v1", "secrets"),
    Kind.DAEMON_SET: Resource("apps", "v1", "daemonsets"),
}

OPTIONAL_KINDS: Final = frozenset({Kind.SERVICE_CIDR, Kind.INSTANCE, Kind.PEER, Kind.ADVERTISEMENT})
"""A server that does not know these (404) has none: ours may be installed later, ServiceCIDR v1 came with 1.33."""


def path_of(kind: Kind, only: Key | None = None) -> str:
    """Path of the collection: of the whole cluster, or of the namespace that `only` is in, if it is in one."""
    group, version, plural = RESOURCES[kind]
    root = f"/apis/{group}/{version}" if group else f"/api/{version}"
    return f"{root}/namespaces/{only.namespace}/{plural}" if only and only.namespace else f"{root}/{plural}"
