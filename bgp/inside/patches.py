"""Replacements in ExaBGP's sessions: how they begin, live and end. What of that can be asked for is in `extras`.

They run inside ExaBGP; `bgp.inside.launcher` puts each in its place and hands it what it replaces. Each is one
function, says what is wrong without it, and has a test in tests/live/test_exabgp_contract*.py that fails when upstream
changes (seen with ExaBGP 5.0.15). Replacements in the reactor are in `bgp.inside.reactor`, those in sockets in
`bgp.inside.sockets`. It refuses to import ExaBGP.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final

from bgp.inside.extras import Extras, Farewell, read_description, read_farewells
from bgp.inside.patience import is_refusal
from bgp.inside.zones import zoned

FAREWELL_TRIES: Final = 10
"""How often the last message is tried: a peer that does not read is not waited for."""

Method = Callable[..., Any]
Errors = tuple[type[Exception], ...]


@functools.lru_cache(maxsize=4096)
def _extras(description: str) -> Extras:
    return read_description(description)


def end_well(close: Method, established: object, notification: Any) -> Method:
    """Around `Peer._close`: Delay cannot tell a lost session, a refused one and a failed dial from each other, and
    End-of-RIB outlives its session.

    One that was queued on a session that ended would go out on the next one, maybe before all routes. A session that
    we end ourselves (`_teardown`) is not lost.
    """

    @functools.wraps(close)
    def _close(self: Any, message: str = "", error: Any = "") -> None:
        extras = _extras(self.neighbor["description"])
        self._delay.cap_seconds = extras.connect_retry_seconds
        if self.fsm == established:
            self._delay.forgive()
            if self._teardown is None:
                self._delay.lost()
        elif isinstance(error, notification) and is_refusal(error.code, error.subcode, node=extras.node):
            self._delay.refused(node=extras.node)
        self.neighbor.eor.clear()
        close(self, message, error)

    return _close


def say_why(close: Method, before_connected: Collection[object], broken: Errors) -> Method:
    """Around `Peer._close`: an attempt that fails before TCP is connected is told as well, with the reason.

    Without it a session whose interface or local address does not exist says nothing at all, for ever.
    """

    @functools.wraps(close)
    def _close(self: Any, message: str = "", error: object = "") -> None:
        if self.fsm in before_connected and isinstance(error, Exception) and self.neighbor.api["neighbor-changes"]:
            with contextlib.suppress(*broken):
                self.reactor.processes.down(self.neighbor, str(error))
        close(self, message, error)

    return _close


def start_over(reestablish: Method, unfinished: Collection[object]) -> Method:
    """Around `Peer.reestablish`: a session that waits is ended when its configuration changes.

    Without it the change is in force when the wait for the peer's OPEN is over, after a minute: a peer that is silent
    because of what was wrong in the configuration would stay so for that long. One that is passive and waits to be
    dialed is given no turns, in which the change would come into force: it would never dial when it is to be passive no
    more, and any other change would end the next session at its start. What was refused before says nothing any more.
    """

    @functools.wraps(reestablish)
    def _reestablish(self: Any, neighbor: Any = None) -> None:
        reestablish(self, neighbor)
        self._delay.forgive()
        if self.fsm in unfinished or (self.proto is None and self.neighbor["passive"]):
            self._reset("its configuration has changed")
            self._delay.reset()

    return _reestablish


def begin_with_newest(main: Method) -> Method:
    """Around `Peer._main`: a reload that comes between FSM ESTABLISHED and the first step of `_main` is not for later.

    `_main` begins with the neighbor that the reload has put in place, and forgets what that one replaces. Without this
    it then looks for just that, as if the reload had come during the session, and the session ends with an
    AttributeError and without a word. A neighbor for which the session must end anyhow still waits.
    """

    @functools.wraps(main)
    def _main(self: Any) -> Any:
        if self._neighbor is self.neighbor:
            self._neighbor = None
        return main(self)

    return _main


def remember_farewells(reload: Method) -> Method:
    """Around `Reactor.reload`: the configuration says what peers are told that are not in it any more."""

    @functools.wraps(reload)
    def _reload(self: Any) -> bool:
        with contextlib.suppress(OSError):  # the reload will say that there is no file
            self.farewells = read_farewells(Path(self.configuration._configurations[0]).read_text())  # noqa: SLF001
        return bool(reload(self))

    return _reload


def say_farewell(remove: Method, established: object, notify: Method, broken: Errors) -> Method:
    """Around `Peer.remove`: a peer that the configuration does not have any more is told so with a Cease.

    Without it the session is closed without a word, and a peer that helps with graceful restart keeps our routes for
    the whole restart time (RFC 4724 4.2). Which Cease, and the text of it (RFC 9003), is what the configuration says
    (`bgp.inside.extras`); 6/3, Peer De-configured, when it says nothing. Not a word when another neighbor has the same
    address: only the session's identity has changed, and the routes are to be kept as in a restart. The end of ExaBGP
    (SIGTERM) is `Peer.shutdown`, and stays silent.
    """

    @functools.wraps(remove)
    def _remove(self: Any) -> None:
        if self.fsm == established and self.proto is not None:
            address = zoned(self.neighbor)
            stay = set(map(zoned, self.reactor.configuration.neighbors.values()))
            if address not in stay:
                farewell = getattr(self.reactor, "farewells", {}).get(address, Farewell())
                with contextlib.suppress(*broken):
                    last_words = self.proto.new_notification(notify(6, farewell.subcode, farewell.data))
                    list(itertools.islice(last_words, FAREWELL_TRIES))
        remove(self)

    return _remove


def keep_alive_as_wanted(keepalive: Method) -> Method:
    """In place of the class `KA`: KEEPALIVEs are sent as often as the neighbor's description says.

    Without it always after a third of the negotiated hold time, which stays the most (as in FRR): a hold time of 0
    means none at all. A change is in force at once, as no session need end for it.
    """

    def make(session: Method, proto: Any) -> Any:
        made = keepalive(session, proto)
        third, need = made.send_timer.keepalive, made.send_timer.need_ka

        def need_ka() -> bool:
            wanted = _extras(proto.peer.neighbor["description"]).keepalive_seconds
            made.send_timer.keepalive = third if wanted is None else min(wanted, third)
            return bool(need())

        made.send_timer.need_ka = need_ka
        return made

    return make


def write_unknown_as(neighbor: Method) -> Method:
    """Around `JSON._neighbor`: an AS that is learned from the OPEN is written as the bare word None, which no JSON has.

    The peer of `peer-as auto` would be one of which we understand nothing.
    """

    @functools.wraps(neighbor)
    def _neighbor(self: Any, peer: Any, direction: str, content: str) -> str:
        text: str = neighbor(self, peer, direction, content)
        return text if peer["peer-as"] is not None else text.replace('"peer": None }', '"peer": null }', 1)

    return _neighbor


def show_learned_as(cli_data: Method) -> Method:
    """Around `Peer.cli_data`: `show neighbor` falls over an AS that is not configured, for all peers at once.

    It shows the one that was learned; 0 before there is one.
    """

    @functools.wraps(cli_data)
    def _cli_data(self: Any) -> Any:
        if self.neighbor["peer-as"] is not None:
            return cli_data(self)
        self.neighbor["peer-as"] = 0 if self.proto is None else self.proto.negotiated.peer_as
        try:
            return cli_data(self)
        finally:
            self.neighbor["peer-as"] = None

    return _cli_data


def admit_what_is_lost(graceful: Method, code: int) -> Method:
    """Around `Capabilities._graceful`: the F bits are as the description says.

    Without it they are always set (RFC 4724 3: forwarding state was kept), after a reboot of the machine too, and a
    router goes on sending to a node that has no routes yet.
    """

    @functools.wraps(graceful)
    def _graceful(self: Any, neighbor: Any, restarted: bool) -> None:
        graceful(self, neighbor, restarted)
        if code in self and _extras(neighbor["description"]).forwarding_lost:
            self[code].update(dict.fromkeys(self[code], 0))

    return _graceful


def refuse_own_as(validate: Method) -> Method:
    """Around `Negotiated.validate`: `peer-as auto` is for external peers, one of our own AS is refused.

    Without it the session comes up as iBGP: LOCAL_PREF and routes that are for our own nodes would go to it, and its
    routes would count as theirs.
    """

    @functools.wraps(validate)
    def _validate(self: Any, neighbor: Any) -> Any:
        if neighbor["peer-as"] is None and self.peer_as == neighbor["local-as"]:
            return 2, 2, f"AS in OPEN ({int(self.peer_as)}) is our own, an external peer is expected"
        return validate(self, neighbor)

    return _validate
