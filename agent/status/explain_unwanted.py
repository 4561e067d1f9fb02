"""Why nobody asks for an address of a Service: each BGPAdvertisement names other classes, Services or nodes.

Reads `Status` only. What is asked for and refused is said by the plan (`agent.status.explain_service`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Final

from agent.advertising import Advertisement, AdvertisementType, ServiceAddress
from agent.model import Key, Kind, Namespace, Service
from agent.plan.services import wanted_classes
from agent.status.explain_absent import not_selected
from agent.status.hops import Hop
from agent.status.status import Status
from bgp.model import Address

_ASKS: Final = "bgpilot.io/advertise that asks for it"


def unwanted_hops(
    status: Status, key: Key, service: Service, addresses: Collection[Address], *, neutral: bool = False
) -> Iterator[Hop]:
    """The first thing that keeps every advertisement from announcing these addresses of the Service, of which the plan
    says nothing; without any, from announcing anything of it.

    `neutral`: the Service is judged by what else is said of it.
    """
    fitting = sorted((it for it in _of_services(status) if _selects(status, it, service)), key=lambda it: it.name)
    here = [it for it in fitting if status.own_labels is None or it.node_selector.matches(status.own_labels)]
    asked = {
        address: [it for it in fitting if _classes(service, address) & wanted_classes(it, service.requested)]
        for address in addresses
    }
    pending = [address for address, by in asked.items() if any(it in here for it in by)]
    for address in pending:
        text = f"{_named(service, [address])} is about to be announced"
        yield Hop(str(key), text, ok=False, reason="pending")
    for it in fitting:
        if found := [address for address, by in asked.items() if it in by and address not in pending]:
            about = Key(Kind.ADVERTISEMENT, "", it.name)
            hop = not_selected(status.node, about, it.node_selector, status.own_labels or {})
            text = f"does not announce {_named(service, found)} here: {hop.text}"
            yield replace(hop, text=text, ok=neutral, neutral=neutral)
    unnamed = [address for address, by in asked.items() if not by]
    if unnamed or not addresses:
        reason, why = _why_unnamed(service, here or fitting)
        are = "are" if len(unnamed) > 1 else "is"
        what = f"{_named(service, unnamed)} {are} not announced for it here: " if unnamed else ""
        besides = neutral or len(unnamed) < len(asked)
        yield Hop(str(key), f"{what}{why}", ok=besides, reason=reason, neutral=besides)


def _of_services(status: Status) -> Iterator[Advertisement]:
    for it in status.advertisements.values():
        if isinstance(it, Advertisement) and it.type is AdvertisementType.SERVICE:
            yield it


def _selects(status: Status, advertisement: Advertisement, service: Service) -> bool:
    namespace = status.namespaces.get(Key(Kind.NAMESPACE, "", service.namespace))
    around = dict(namespace.labels) if isinstance(namespace, Namespace) else {}
    choice = advertisement.service
    return choice.selector.matches(dict(service.labels)) and choice.namespace_selector.matches(around)


def _why_unnamed(service: Service, fitting: Sequence[Advertisement]) -> tuple[str, str]:
    """The reason word, and what the advertisements that select the Service have instead of its addresses."""
    classes = {class_ for it in fitting for class_ in wanted_classes(it, service.requested)}
    names = ", ".join(it.name for it in fitting)
    if classes:
        has = any((service.cluster_ips, service.external_ips, service.load_balancer_ips))
        text = f"BGPAdvertisement {names} announces {' and '.join(sorted(classes))} of it"
        return "noAddressOfClass", f"{text} only" if has else f"{text}, and it has none"
    if fitting and service.requested is None:
        text = f"BGPAdvertisement {names} announces addresses of it on request only, and it has no annotation {_ASKS}"
        return "notRequested", text
    none = "no BGPAdvertisement for this node announces an address of it"
    text = f"{none}, though its annotation bgpilot.io/advertise asks for it" if service.requested else none
    return "notSelected", text


def _named(service: Service, addresses: Sequence[Address]) -> str:
    """`10.96.0.9 (ClusterIP) and 198.51.100.9 (ExternalIP)`."""
    *others, last = (f"{it} ({' and '.join(sorted(_classes(service, it)))})" for it in addresses)
    return f"{', '.join(others)} and {last}" if others else last


def _classes(service: Service, address: Address) -> set[ServiceAddress]:
    found = {
        ServiceAddress.CLUSTER_IP: service.cluster_ips,
        ServiceAddress.EXTERNAL_IP: service.external_ips,
        ServiceAddress.LOAD_BALANCER_IP: service.load_balancer_ips,
    }
    return {class_ for class_, addresses in found.items() if address in addresses}
