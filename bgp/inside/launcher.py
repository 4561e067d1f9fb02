"""Starts ExaBGP in this process, with our settings and a few of its functions replaced. The only importer of `exabgp`.

    python -m bgp.inside.launcher [--die-with-parent PID] CONFIGURATION
    python -m bgp.inside.launcher --validate CONFIGURATION     `-`: its name comes on standard input, once it is known

It refuses to run any version but those below, because it reaches into ExaBGP. What is put in place of ExaBGP's own is
in `bgp.inside.patches` (sessions), `bgp.inside.reactor`, `bgp.inside.sharing` and `bgp.inside.sockets`; when to dial
is in `bgp.inside.patience`.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.metadata
import os
import re
import signal
import sys
from typing import Final

from bgp.inside import addressees, patches, reactor, secrecy, sharing, sockets, updates, zones
from bgp.inside.extras import COMMUNICATION_MAX_BYTES
from bgp.inside.patience import Patience

OLDEST: Final = (5, 0, 15)
BELOW: Final = (6,)
EXIT_UNUSABLE: Final = 78
"""EX_CONFIG of sysexits.h: no ExaBGP that we can run; trying again will not help."""

SETTINGS: Final = {
    "exabgp.api.ack": "true",
    "exabgp.api.chunk": "100",  # lines of a table written before other work gets its turn
    "exabgp.api.cli": "false",  # no named pipes: nothing is written to disk
    "exabgp.api.compact": "true",  # prefixes as strings: a third of the JSON
    "exabgp.api.respawn": "true",
    "exabgp.api.terminate": "true",  # without: a write to a bridge that has just died stops the peer for good
    "exabgp.daemon.daemonize": "false",
    "exabgp.daemon.pid": "",
    "exabgp.daemon.user": "root",  # stays what it is: the default, nobody, refuses to start without SETUID
    "exabgp.log.destination": "stderr",
    "exabgp.log.level": "WARNING",  # INFO has a line for every route
    "exabgp.log.statistics": "false",
    "exabgp.tcp.bind": "",  # sockets come from the `listen` of each neighbor
}

PR_SET_PDEATHSIG: Final = 1


class UnusableError(Exception):
    """No ExaBGP that we can run; the text says what to do."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="bgp.inside.launcher", description=__doc__)
    parser.add_argument("--validate", action="store_true", help="only say whether ExaBGP would take the configuration")
    parser.add_argument("--die-with-parent", type=int, metavar="PID", help="end (as by SIGTERM) when this parent does")
    parser.add_argument("configuration")
    wanted = parser.parse_args()
    try:
        require_version()
    except UnusableError as error:
        print(f"bgpilot: {error}", file=sys.stderr)  # noqa: T201 - the supervisor reads it there
        return EXIT_UNUSABLE
    if wanted.die_with_parent is not None:
        die_with_parent(wanted.die_with_parent)
    secrecy.keep_memory()
    os.environ.update(SETTINGS)
    return run("validate" if wanted.validate else "server", wanted.configuration)


def require_version() -> None:
    wanted = f"exabgp>={'.'.join(map(str, OLDEST))},<{BELOW[0]}"
    try:
        version = importlib.metadata.version("exabgp")
    except importlib.metadata.PackageNotFoundError:
        raise UnusableError(f"ExaBGP is not installed: pip install '{wanted}'") from None
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:3])
    if not OLDEST <= numbers < BELOW:
        raise UnusableError(f"ExaBGP {version} is installed, {wanted} is needed: pip install '{wanted}'")


def die_with_parent(parent: int) -> None:
    """Linux sends SIGTERM when the thread that started us ends (prctl(2), PR_SET_PDEATHSIG), and none when it has ended
    before this call: then we are another process's child already. So the parent says who it is.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(0)


def run(command: str, configuration: str) -> int:
    from exabgp.application import main as application  # noqa: PLC0415 - reads the environment when imported

    replace()
    if configuration == "-":
        configuration = sys.stdin.readline().rstrip("\n")
        if not configuration:  # whoever would have asked has gone
            return 0
    sys.argv = ["exabgp", command, configuration]
    return application.main() or 0


def replace() -> None:
    """Put every replacement in its place."""
    from exabgp.bgp import neighbor  # noqa: PLC0415
    from exabgp.bgp.message import notification, update  # noqa: PLC0415
    from exabgp.bgp.message.open.capability import Capability, capabilities, negotiated  # noqa: PLC0415
    from exabgp.configuration.neighbor import ParseNeighbor  # noqa: PLC0415
    from exabgp.protocol.family import AFI  # noqa: PLC0415
    from exabgp.reactor import loop, peer  # noqa: PLC0415
    from exabgp.reactor.api.command import announce, limit  # noqa: PLC0415
    from exabgp.reactor.api.command import rib as tables  # noqa: PLC0415
    from exabgp.reactor.api.response import json  # noqa: PLC0415
    from exabgp.reactor.network import tcp  # noqa: PLC0415
    from exabgp.reactor.network.error import NetworkError  # noqa: PLC0415
    from exabgp.rib import outgoing as rib  # noqa: PLC0415

    broken = (NetworkError, peer.ProcessError)
    fsm = peer.FSM
    up, idle, between = fsm.ESTABLISHED, (fsm.IDLE, fsm.ACTIVE), (fsm.CONNECT, fsm.OPENSENT, fsm.OPENCONFIRM)

    session = peer.Peer
    peer.Delay = Patience
    peer.KA = patches.keep_alive_as_wanted(peer.KA)
    session._close = patches.say_why(  # noqa: SLF001
        patches.end_well(session._close, up, notification.Notification),  # noqa: SLF001
        idle,
        broken,
    )
    session._main = patches.begin_with_newest(session._main)  # noqa: SLF001
    session.remove = patches.say_farewell(session.remove, up, notification.Notify, broken)
    session.reestablish = patches.start_over(session.reestablish, between)
    session.cli_data = zones.show_zone(patches.show_learned_as(session.cli_data))
    session.reconfigure = reactor.carry_over(session.reconfigure)
    offered = capabilities.Capabilities
    offered._graceful = patches.admit_what_is_lost(offered._graceful, Capability.CODE.GRACEFUL_RESTART)  # noqa: SLF001
    negotiated.Negotiated.validate = patches.refuse_own_as(negotiated.Negotiated.validate)
    json.JSON._neighbor = zones.write_zone(patches.write_unknown_as(json.JSON._neighbor))  # noqa: SLF001
    # RFC 9003; ExaBGP reads no more than the 128 bytes of RFC 8203.
    notification.Notification.SHUTDOWN_COMM_MAX_LEGACY = COMMUNICATION_MAX_BYTES

    turns = loop.Reactor
    turns._wait_for_io = reactor.pace(turns._wait_for_io)  # noqa: SLF001
    turns._pending_adjribout = reactor.never_pending  # noqa: SLF001
    turns.reload = patches.remember_farewells(turns.reload)
    turns.shutdown = reactor.end_unheard(turns.shutdown)
    turns.handle_connection = sockets.take_as_configured(
        turns.handle_connection, tcp.bind_to_device, tcp.set_minimum_ttl, NetworkError
    )
    neighbor.Neighbor.name = zones.name_with_zone(neighbor.Neighbor.name)
    neighbor.Neighbor.__eq__ = reactor.same_in_all(neighbor.Neighbor.__eq__)
    ParseNeighbor._post_capa_nexthop = reactor.offer_next_hops(ParseNeighbor._post_capa_nexthop)  # noqa: SLF001
    rib.OutgoingRIB._update_rib = reactor.keep_newest(rib.OutgoingRIB._update_rib)  # noqa: SLF001
    update.Update._split_nlris = reactor.as_negotiated(update.Update._split_nlris, AFI.ipv4, AFI.ipv6)  # noqa: SLF001

    _hear()
    _share()
    for commands in (announce, tables):
        commands.extract_neighbors = addressees.split_at_commas(limit.extract_neighbors)
        commands.match_neighbors = addressees.look_up(limit.match_neighbors)
    _connect()


def _connect() -> None:
    """What has to do with dialing and being dialed."""
    from exabgp.reactor import listener  # noqa: PLC0415
    from exabgp.reactor.network import incoming, outgoing  # noqa: PLC0415
    from exabgp.reactor.network.error import NetworkError, NotConnected  # noqa: PLC0415

    for connections in (incoming, outgoing):
        connections.asynchronous = sockets.notice_reboots(connections.asynchronous)
    outgoing.create = sockets.give_up_early(outgoing.create)
    outgoing.ready = sockets.say_outcome(NotConnected)
    outgoing.connect = sockets.say_plainly(outgoing.connect, NotConnected)
    dial = outgoing.Outgoing
    dial._setup = sockets.name_interface(dial._setup, NotConnected)  # noqa: SLF001
    dial._connect = sockets.fail_aloud(dial._connect, (NetworkError,))  # noqa: SLF001
    listener.Listener.incoming = sockets.forget_none(listener.Listener.incoming)
    listener.Listener._listen = sockets.listen_for_all(listener.Listener._listen)  # noqa: SLF001


def _hear() -> None:
    """What has to do with what is received."""
    from exabgp.bgp.message import notification, update  # noqa: PLC0415
    from exabgp.bgp.message.open.capability import REFRESH  # noqa: PLC0415
    from exabgp.bgp.message.update.attribute import Attribute, Attributes  # noqa: PLC0415
    from exabgp.reactor import peer  # noqa: PLC0415
    from exabgp.reactor.api import processes  # noqa: PLC0415

    code = Attribute.CODE
    wrong = (code.INTERNAL_TREAT_AS_WITHDRAW, code.INTERNAL_DISCARD)
    path = (code.ORIGIN, code.AS_PATH, code.MED, code.LOCAL_PREF)
    known = frozenset({*path, code.COMMUNITY, code.LARGE_COMMUNITY, code.ORIGINATOR_ID, code.CLUSTER_LIST, *wrong})
    Attributes._generate_json = updates.write_what_is_read(Attributes._generate_json, known)  # noqa: SLF001
    Attributes.parse = updates.keep_the_path(Attributes.parse, (code.AS4_PATH, code.AS4_AGGREGATOR))
    peer.Peer.resend = reactor.answer_requests(peer.Peer.resend, REFRESH.ENHANCED)
    unpack = updates.refuse_the_unreadable(
        update.Update.unpack_message.__func__, code.INTERNAL_TREAT_AS_WITHDRAW, notification.Notify
    )
    update.Update.unpack_message = classmethod(unpack)
    processes.Processes.notification = updates.leave_to_the_notification
    _hear_communities()


def _hear_communities() -> None:
    from exabgp.bgp.message.update.attribute import community as each  # noqa: PLC0415
    from exabgp.bgp.message.update.attribute.community.extended import communities as extended  # noqa: PLC0415

    for many, size, one in (
        (each.Communities, 4, each.Community),
        (each.LargeCommunities, 12, each.LargeCommunity),
        (extended.ExtendedCommunities, 8, each.ExtendedCommunity),
        (extended.ExtendedCommunitiesIPv6, 20, extended.ExtendedCommunityIPv6),
    ):
        many.unpack = staticmethod(updates.read_in_one_go(many.unpack, size, one.unpack))


def _share() -> None:
    """What has to do with many sessions at once."""
    from exabgp.bgp import neighbor  # noqa: PLC0415
    from exabgp.bgp.message import update  # noqa: PLC0415
    from exabgp.reactor import protocol  # noqa: PLC0415
    from exabgp.reactor.network import connection  # noqa: PLC0415

    neighbor.Neighbor.remove_self = sharing.share_route(neighbor.Neighbor.remove_self)
    update.Update.messages = sharing.pack_once(update.Update.messages)
    protocol.Protocol.new_update = sharing.write_together(
        protocol.Protocol.new_update,
        protocol._UPDATE,  # noqa: SLF001
        protocol._NOP,  # noqa: SLF001
    )
    connection.Connection.writer = sharing.in_order(connection.Connection.writer)


if __name__ == "__main__":
    sys.exit(main())
