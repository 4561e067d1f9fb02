"""What can be wrong with how the nodes of one BGPInstance peer with each other, in words.

When it is wrong is decided in `agent.plan.topology`. No text has a number in it that follows the number of nodes: it
would be another Problem with every node that comes.
"""

from __future__ import annotations

from ipaddress import IPv4Address

from agent.model import Problem


def too_large(instance: str, asn: int, threshold: int) -> Problem:
    return Problem(
        "meshTooLarge",
        _subject(instance),
        f"more than {threshold} nodes of AS {asn} are fully meshed: each of them has a session with every other one",
        f"Set mesh.mode of {_subject(instance)} to Auto or RouteReflector, or raise mesh.reflectors.threshold.",
    )


def nobody_selected(instance: str, asn: int) -> Problem:
    return Problem(
        "reflectorsMissing",
        _subject(instance),
        f"mesh.reflectors.nodeSelector matches no node of AS {asn}: the nodes do as in mode Auto meanwhile",
        f"Label two nodes or more so that mesh.reflectors.nodeSelector of {_subject(instance)} matches them, or set "
        "mesh.mode to Auto.",
    )


def too_few(instance: str, asn: int, enough: int) -> Problem:
    return Problem(
        "reflectorsMissing",
        _subject(instance),
        f"less than {enough} reflectors of AS {asn} are Ready and not cordoned: the next one to go cuts routes",
        "Make more nodes Ready, uncordon them, or let mesh.reflectors.nodeSelector match more of them.",
    )


def shared_cluster_id(instance: str, other: str, cluster_id: IPv4Address) -> Problem:
    own, theirs = _subject(instance), _subject(other)
    return Problem(
        "clusterIDShared",
        own,
        f"mesh.reflectors.clusterID {cluster_id} is also that of {theirs}: their reflectors take each other's routes "
        "for their own that came back, and refuse them",
        f"Give {own} and {theirs} cluster ids of their own, or leave mesh.reflectors.clusterID out.",
    )


def _subject(instance: str) -> str:
    return f"BGPInstance {instance or '(defaults)'}"
