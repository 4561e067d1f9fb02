"""What can be wrong with how the nodes of one BGPInstance peer with each other, in words.

When it is wrong is decided in `agent.plan.topology`. No text has a number in it that follows the number of nodes: it
would be another Problem with every node that comes.
"""

from __future__ import annotations

from ipaddress import IPv4Address

from agent.intent import SecretRef
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


def passwords_differ(instance: str, ours: SecretRef | None, other: str, theirs: SecretRef | None) -> Problem:
    """What stands in two Secrets may be the same: a node reads those that it needs only."""
    own, there = _subject(instance), _subject(other)
    unless = "" if ours is None or theirs is None else " unless both hold the same"
    same = f"Name the same Secret and key in mesh.passwordSecretRef of {own} and {there}"
    if not (instance and other):  # the defaults have no field to set
        same = "Let BGPInstances with the same mesh.passwordSecretRef select all of these nodes"
    ways = f"{same}, or give their nodes different AS numbers" if ours and theirs else f"{same}, or leave it out"
    return Problem(
        "meshPasswordsDiffer",
        own,
        f"sessions between its nodes and those of {there} stay down{unless}: mesh.passwordSecretRef of {own} "
        f"{_names(ours)}, that of {there} {_names(theirs)}",
        f"{ways}.",
    )


def _names(ref: SecretRef | None) -> str:
    return "is not set" if ref is None else f"names Secret {ref.name} key {ref.key}"


def _subject(instance: str) -> str:
    return f"BGPInstance {instance or '(defaults)'}"
