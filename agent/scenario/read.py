"""A scenario out of a document that somebody may have edited: typed, or a ScenarioError that says where and what to do.

An object of the cluster that cannot be read is no error: it is left out with a Problem, as the agent itself does it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface, ip_interface
from typing import Final

from agent.cluster.fields import Field, FieldError
from agent.cluster.parse import read_object
from agent.cluster.spec import choice
from agent.intent import PodRoutes
from agent.model import Applied, ClusterChange, Gateway, Interface, Key, Kind, Malformed, Problem, Secret
from agent.plan.leaving import Departure, Progress
from agent.plan.model import Identity
from agent.plan.sessions import SessionClaim
from agent.plan.topology import Area
from agent.scenario.form import MEMBERS, Scenario, ScenarioError
from agent.scenario.sessions import address, families, family, ipv4, number, read_heard
from bgp.model import BGP_PORT, DEFAULT_HOLD_SECONDS, Family, Password, Peer

STAND_IN: Final = Password("redacted")
"""In place of a password that a file does not have."""
_PORT_MAX: Final = 0xFFFF
_ASN_MAX: Final = 0xFFFF_FFFF


def read_text(text: str) -> Scenario:
    """JSON or YAML. Raises ScenarioError."""
    try:
        return read_document(_parsed(text))
    except RecursionError:
        raise ScenarioError("no scenario: it is nested too deep") from None


def _parsed(text: str) -> object:
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            if text.startswith("{\n") or '":' in text[:200]:
                raise ScenarioError(f"line {error.lineno}, column {error.colno}: no JSON: {error.msg}") from None
        except ValueError as error:
            raise ScenarioError(f"no JSON: {error}") from None
    from yaml import YAMLError  # noqa: PLC0415  # a fifth of the time to start, for who needs it

    from agent.scenario.nested import read_yaml  # noqa: PLC0415

    try:
        return read_yaml(text)
    except ScenarioError:  # a ValueError, too
        raise
    except (YAMLError, ValueError) as error:
        raise ScenarioError(f"no YAML: {' '.join(str(error).split())}") from None


def read_document(document: object) -> Scenario:
    """Raises ScenarioError."""
    if not isinstance(document, dict) or "node" not in document:
        raise ScenarioError("no scenario: it must be an object with `node` and `cluster`, as tech-support writes it")
    if unknown := sorted(map(str, document.keys() - MEMBERS)):
        raise ScenarioError(f"unknown members {', '.join(unknown)}: known are {', '.join(sorted(MEMBERS))}")
    whole = {name: Field(name, document.get(name)) for name in MEMBERS}
    try:
        return _read(whole)
    except FieldError as error:
        raise ScenarioError(f"{error.what}: {error.fix}") from None


def _read(whole: dict[str, Field]) -> Scenario:
    before = whole["before"]
    return Scenario(
        node=whole["node"].text(),
        events=(
            *(change for item in whole["cluster"].items() for change in _objects(item)),
            *map(_missing, whole["missingSecrets"].items()),
            *map(_not_read, whole["notRead"].items()),
            *map(read_heard, whole["heard"].items()),
        ),
        interfaces=tuple(map(_interface, whole["interfaces"].items())),
        gateways=tuple(
            Gateway(family(item["family"]), address(item["address"]), item["interface"].number(0, 0x7FFF_FFFF))
            for item in whole["gateways"].items()
        ),
        written_before={name: address(item) for name, item in whole["writtenBefore"].members()},
        small=frozenset(map(_area, before["small"].items())),
        mesh={claim.source.name: claim for claim in map(_claim, before["sessions"].items())},
        identity=_only_as(whole["node"].text(), before["asn"].number(0, _ASN_MAX)) if before["asn"] else None,
        departure=_departure(before["departure"]),
        standing=whole["standing"],
        wanted=whole["plan"].text() if whole["plan"] else "",
        version=whole["version"].text() if whole["version"] else "",
        left_out=tuple((name, item.number(0, 1 << 62)) for name, item in whole["leftOut"].members()),
    )


def _objects(found: Field) -> Iterator[ClusterChange]:
    kind = found["kind"]
    if isinstance(kind.value, str) and kind.value.endswith("List"):
        for item in found["items"].items():
            yield from _objects(item)
        return
    if kind.value not in list(Kind):
        raise kind.error("is not known", f"remove the object; kinds that matter are {', '.join(Kind)}")
    parsed = read_object(Kind(kind.text()), json.dumps(found.value, default=str).encode())
    if isinstance(parsed.outcome, Problem):
        yield Malformed(parsed.key, parsed.outcome)
    else:
        yield Applied(parsed.key, parsed.outcome)


def _missing(found: Field) -> Applied:
    named = isinstance(found.value, str)
    name = found.text() if named else found["name"].text()
    why = "" if named or not found["why"] else found["why"].text()
    return Applied(Key(Kind.SECRET, "", name), Secret(name=name, found=False, why=why))


def _not_read(found: Field) -> Malformed:
    kind, namespace = choice(found["kind"], Kind), found["namespace"]
    key = Key(kind, namespace.label_value() if namespace else "", found["name"].text())
    reason, fix = found["reason"].text(), found["fix"]
    return Malformed(key, Problem(reason, str(key), found["message"].text(), fix.label_value() if fix else ""))


def _interface(found: Field) -> Interface:
    return Interface(
        index=found["index"].number(0, 0x7FFF_FFFF),
        name=found["name"].text(),
        up=found["up"].flag(default=True),
        addresses=tuple(map(_with_length, found["addresses"].items())),
        ends=tuple(item.prefix() for item in found["ends"].items()),
    )


def _with_length(field: Field) -> IPv4Interface | IPv6Interface:
    try:
        return ip_interface(field.text())
    except ValueError:
        raise field.error("is no address with a prefix length", "write it as 192.0.2.1/24") from None


# What a plan remembers of the one before.


def _area(found: Field) -> Area:
    return Area(found["asn"].number(0, _ASN_MAX), found["instance"].label_value() if found["instance"] else "")


def _claim(found: Field) -> SessionClaim:
    node, remote = found["node"].text(), address(found["address"])
    peer = Peer(
        address=remote,
        name=f"node/{node}",
        local_address=address(found["localAddress"]),
        local_asn=found["asn"].number(0, _ASN_MAX),
        peer_asn=found["asn"].number(0, _ASN_MAX),
        router_id=ipv4(found["routerID"]),
        families=families(found["families"], frozenset(Family)),
        passive=found["passive"].flag(default=False),
        port=found["port"].number(0, _PORT_MAX, BGP_PORT),
        listen_port=found["listenPort"].number(0, _PORT_MAX, BGP_PORT),
        hold_seconds=found["holdSeconds"].number(0, _PORT_MAX, DEFAULT_HOLD_SECONDS),
        password=STAND_IN if found["password"].flag(default=False) else None,
        mesh=True,
        client=found["client"].flag(default=False),
    )
    created = float(number(found["created"], 1 << 62) or 0)
    return SessionClaim(created=created, source=Key(Kind.NODE, "", node), address=remote, peer=peer)


def _only_as(node: str, asn: int) -> Identity:
    """Of what the node was in the plan before, nothing but the AS is ever asked for."""
    return Identity(
        node=node,
        instance="",
        asn=asn,
        router_id=IPv4Address(0),
        router_id_source="",
        addresses=(),
        pod_cidrs=(),
        pod_routes=PodRoutes.BGP,
    )


def _departure(found: Field) -> Departure:
    ordered = found["ordered"]
    return Departure(
        ordered=ordered.label_value() if ordered else None,
        deleted=found["deleted"].flag(default=False),
        ending=found["ending"].flag(default=False),
        uninstalled=found["uninstalled"].flag(default=False),
        progress=Progress(found["progress"].number(0, max(Progress), max(Progress))),
    )
