"""Services with an address that is asked for and not announced from here, by reason word: what the short answer and the
metric tell of, and so `check` and the alert.

That one of several advertisements does not announce what another does is no silence: `explain` says it.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Final

from agent.model import Key
from agent.plan.prefixes import host
from agent.plan.services import split_what
from agent.status.meanings import meaning_out
from agent.status.peers import View
from agent.status.remedies import outward_remedy
from agent.status.status import Status
from bgp.model import Address

FIRST_MAX: Final = 20
"""Services that are named for each reason; `explain` knows all."""


def silent(status: Status) -> Mapping[str, Mapping[Key, str]]:
    """By reason word and Service the first of its addresses, or what it lacks."""
    found: dict[str, dict[Key, str]] = {}
    for (service, what), reason in status.plan.not_advertised.items():
        address, only = split_what(what)
        if not (only and is_announced(status, service, ip_address(address))):
            found.setdefault(reason, {}).setdefault(service, what)
    return found


def silent_view(status: Status) -> list[View]:
    return [
        {
            "reason": reason,
            "text": meaning_out(reason),
            "fix": outward_remedy(reason),
            "services": len(services),
            "first": [
                {"service": str(service), "what": services[service]} for service in heapq.nsmallest(FIRST_MAX, services)
            ],
        }
        for reason, services in sorted(silent(status).items())
    ]


def is_announced(status: Status, service: Key, address: Address) -> bool:
    """By itself, be it for another Service that has it too, or in an aggregate."""
    aggregates = status.plan.aggregates.get(service, frozenset())
    return host(address) in status.plan.originated or any(
        one.version == address.version and address in one for one in aggregates
    )
