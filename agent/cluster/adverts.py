"""`spec` of a BGPAdvertisement as decoded JSON → Advertisement.

Members that are not known are ignored: the schema may be newer than this agent. Raises `FieldError` and nothing else;
making a Problem of it, and reading metadata, is `agent.cluster.parse`'s.
"""

from __future__ import annotations

from agent.cluster.fields import Field
from agent.cluster.spec import choice, selector
from agent.intent import Advertisement, AdvertisementType, ServiceAddress


def read_advertisement(name: str, created: float, spec: Field) -> Advertisement:
    kind = choice(spec["type"], AdvertisementType)
    service = spec["service"]
    if kind is not AdvertisementType.SERVICE and service:
        raise service.error(f"has no meaning with type {kind}", "remove it, or set type to Service")
    addresses = frozenset(choice(item, ServiceAddress) for item in service["addresses"].items())
    if kind is AdvertisementType.SERVICE and not addresses:
        raise service["addresses"].error(
            "names no class of addresses", f"set it to some of {', '.join(ServiceAddress)}"
        )
    return Advertisement(
        name=name,
        created=created,
        type=kind,
        node_selector=selector(spec["nodeSelector"]),
        service_selector=selector(service["selector"]),
        addresses=addresses,
    )
