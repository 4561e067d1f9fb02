"""A BGP session as a router of the lab is told about it, whichever program the router runs.

Records only. It is called a neighbor here because both routers' languages call it so.
"""

from dataclasses import dataclass

from tests.lab.netns import Family

HOLD_SECONDS = 9
DIAL_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Neighbor:
    """`address` is a peer's, or a network ("172.18.0.0/24") out of which any peer may dial us; ranges are passive.

    `extra` are further lines in the router's own language: FRR's after `neighbor X`, BIRD's inside the protocol.
    """

    address: str
    asn: int
    password: str = ""
    passive: bool = False
    families: tuple[Family, ...] = ("ipv4", "ipv6")
    hold_seconds: int = HOLD_SECONDS
    extra: tuple[str, ...] = ()

    @property
    def is_range(self) -> bool:
        return "/" in self.address
