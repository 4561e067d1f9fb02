"""The agent's answers as tables: one function per answer, values in, text out (`status` is in `agent.cli.glance`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeVar

from agent.cli.problems import problem_lines
from agent.cli.text import age, fact_lines, table, uptime
from agent.cli.unknown import is_known, without_causes

Answer: TypeAlias = Mapping[str, Any]
_Row = TypeVar("_Row")

STAGES: Final = {
    "asked": "everything is announced as a last resort (GRACEFUL_SHUTDOWN)",
    "services": "service addresses are withdrawn",
    "pods": "pod CIDRs are withdrawn",
    "over": "all is withdrawn, sessions end with Cease",
}
"""Of leaving, in their order."""
ROWS_ON_TERMINAL: Final = 200
PROBLEMS_MAX: Final = 50
"""Below a table that is not about them."""
CAUSES_MAX: Final = 20
"""Lines below the table that say why a session is not up."""


def peers(answer: Answer, *, wide: bool, colour: bool, room: int | None = None) -> str:
    """One line per peer and family; on a terminal, of so many columns (`room`), not more lines than people read."""
    headers = ["PEER", "NAME", "AS", "STATE", "UP/DOWN", "HOLD/KA", "FAMILY", "RCVD", "ACPT", "SENT", "LAST-ERROR"]
    more = ["LOCAL", "LOCAL-AS", "ROUTER-ID", "FLAPS", "DESCRIPTION", "OPTIONS"] if wide else []
    rows = [row for address, peer in answer["peers"].items() for row in _peer_rows(address, peer, wide=wide)]
    spare = [] if wide else ["HOLD/KA", "ACPT", "SENT", "RCVD", "UP/DOWN", "FAMILY", "AS", "NAME"]
    kept, more_rows = few(rows, room)
    lines = [table(headers[:-1] + more + headers[-1:], kept, colour=colour, spare=spare, room=room)]
    if not rows:
        lines = [_no_session(answer)] if is_known(answer) else []
    if more_rows:
        lines.append(f"… and {more_rows} lines more: see `bgpilot peers --failed`, or `bgpilot peers | less`")
    return "\n".join(
        [*lines, *_causes(answer["peers"]), *problem_lines(without_causes(answer["problems"]), PROBLEMS_MAX)]
    )


def _no_session(answer: Answer) -> str:
    return "No session to show." + ("" if answer["local_as"] else " The node is nothing in BGP: `bgpilot status`.")


def as_it_should_be(peer: Answer) -> bool:
    """The session is up, or down because somebody wants it so."""
    return bool(peer["is_up"] or peer["parting"] or not peer["is_enabled"])


def _causes(peers: Mapping[str, Answer]) -> list[str]:
    """Why the sessions that are not up are not, a line for each; of a whole mesh the first ones will do."""
    found = [
        f"! {peer['name']}: {why['text']}. Fix: {why['fix']}" for peer in peers.values() if (why := peer.get("cause"))
    ]
    more = len(found) - CAUSES_MAX
    return [*found[:CAUSES_MAX], *([f"! … and {more} more: see `bgpilot explain PEER`"] if more > 0 else [])]


def _peer_rows(address: str, peer: Answer, *, wide: bool) -> list[list[str]]:
    hold = f"{peer['hold_seconds']}/{peer['keepalive_seconds']}"
    first = [address, peer["name"], _remote_as(peer), peer["state"], uptime(peer["state_seconds"]), hold]
    more = _more_of_peer(peer) if wide else []
    return [
        [
            *first,
            family,
            *(str(counts[f"{what}_prefixes"]) for what in ("received", "accepted", "sent")),
            *more,
            _trouble(peer),
        ]
        for family, counts in peer["address_family"].items()
    ] or [[*first, "", "", "", "", *more, _trouble(peer)]]


def _more_of_peer(peer: Answer) -> list[str]:
    about = peer["description"] if peer["description"] != peer["name"] else ""
    named = [peer["local_address"] or "", str(peer["local_as"]), peer["remote_id"] or "", str(peer["flaps"]), about]
    return [*named, ", ".join(peer["options"])]


def _remote_as(peer: Answer) -> str:
    """As its OPEN said it, else as configured: a number, or the word `external`."""
    return str(peer["configured_as"] if peer["remote_as"] is None else peer["remote_as"])


def _trouble(peer: Answer) -> str:
    """Why there is no session, or why the last one ended; and what is kept meanwhile."""
    if peer["reason"] is not None:
        error = ": ".join(it for it in (peer["reason"], peer["reason_text"]) if it)
    else:
        error = last_error(peer["last_error"])
    return "; ".join(it for it in ("parting" if peer["parting"] else "", error, _kept(peer)) if it)


def _kept(peer: Answer) -> str:
    if not (count := peer["stale_prefixes"]):
        return ""
    why = "restarting, " if peer["restarting"] else ""
    return f"{why}{count} path{'s' if count > 1 else ''} kept for {age(peer['stale_seconds'] or 0)} at most"


def last_error(error: Answer | None) -> str:
    if error is None:
        return ""
    number = f" {error['code']}/{error['subcode']}" if error["code"] else ""
    times = f" ×{error['count']}" if error["count"] > 1 else ""
    return f"{error['direction']}{number} {error['text']} ({age(error['age_seconds'])} ago{times})"


def peer(answer: Answer, *, colour: bool) -> str:
    learned = ", learned" if answer["remote_as"] not in {answer["configured_as"], None} else ""
    facts = [
        ("Peer", f"{answer['address']} ({answer['name']})"),
        *([("Description", answer["description"])] if answer["description"] != answer["name"] else []),
        (
            "State",
            answer["state"] + (" (parting: no longer wanted, ends within two minutes)" if answer["parting"] else ""),
        ),
        *([("No session", _trouble(answer))] if answer["reason"] is not None else []),
        ("Since", uptime(answer["state_seconds"])),
        ("AS", f"{_remote_as(answer)}{learned}, ours {answer['local_as']}"),
        ("Link", ("internal" if answer["internal"] else "external") + (", mesh" if answer["mesh"] else "")),
        ("Router id", answer["remote_id"] or "-"),
        ("Local address", answer["local_address"] or "-"),
        ("Dials", _dials(answer)),
        ("Listens", f"on port {answer['listen_port']}"),
        ("Options", ", ".join(answer["options"]) or "none"),
        ("Hold/keepalive", f"{answer['hold_seconds']}/{answer['keepalive_seconds']} s"),
        ("Graceful restart", _seconds(answer["graceful_restart_seconds"])),
        ("Kept", _kept(answer) or "nothing"),
        ("Flaps", str(answer["flaps"])),
        ("Last error", last_error(answer["last_error"]) or "none"),
    ]
    families = table(
        ["FAMILY", "RCVD", "ACPT", "SENT", "END-OF-RIB", "LIMIT"],
        [
            [
                family,
                *(str(counts[f"{what}_prefixes"]) for what in ("received", "accepted", "sent")),
                "yes" if counts["end_of_rib_received"] else "no",
                _limit(answer["prefix_limits"].get(family)),
            ]
            for family, counts in answer["address_family"].items()
        ],
        colour=colour,
    )
    causes = _causes({answer["address"]: answer})
    return "\n".join([*fact_lines(facts), "", families, *causes, *problem_lines(answer["problems"])])


def _dials(peer: Answer) -> str:
    if peer["passive"]:
        return "no, waits for the peer"
    retry = peer["connect_retry_seconds"]
    return f"port {peer['port']}" + (f", every {retry} s at least" if retry is not None else "")


def _limit(limit: Answer | None) -> str:
    """As routers say it: `100, warning at 75 %, teardown, again after 30 s`."""
    if limit is None:
        return ""
    words = [str(limit["prefixes"]), f"warning at {limit['warning_percent']} %"]
    if limit["warning_only"]:
        return ", ".join([*words, "no teardown"])
    again = limit["restart_seconds"]
    return ", ".join([*words, "teardown" if again is None else f"teardown for {again} s"])


def routes(answer: Answer, *, wide: bool, colour: bool, room: int | None = None) -> str:
    if answer["side"] == "advertised":
        headers = ["PREFIX", "PEER", "NEXT-HOP", "AS-PATH", "STATE", "REASON", "FOR"]
        rows = [
            [
                row["prefix"],
                row["peer"],
                row["next_hop"] or "",
                row.get("as_path", ""),
                row["state"],
                row["reason"] or "",
                ", ".join(row["sources"]),
            ]
            for row in answer["rows"]
        ]
    else:
        headers = ["PREFIX", "PEER", "NEXT-HOP", "AS-PATH", "ACCEPTED", "INSTALLED", "REASON"]
        rows = [
            [
                row["prefix"],
                row["peer"],
                row["next_hop"],
                row["as_path"],
                "yes" if row["accepted"] else "no",
                "yes" if row["installed"] else "no",
                ", ".join(it for it in (row["reason"], "kept: session down" if row.get("kept") else "") if it),
            ]
            for row in answer["rows"]
        ]
    if wide:
        headers += ["LOCAL-PREF", "MED", "ORIGIN", "COMMUNITIES"]
        rows = [[*row, *_more_of(about)] for row, about in zip(rows, answer["rows"], strict=True)]
    if not rows:
        return "\n".join(problem_lines(answer["problems"])) or "No route to show."
    kept, more = few(rows, room)
    spare = [] if wide else [it for it in ("ACCEPTED", "AS-PATH", "INSTALLED", "NEXT-HOP") if it in headers]
    shown = table(headers, kept, colour=colour, spare=spare, room=room)
    return "\n".join(filter(None, [shown, left_out(answer, more), *problem_lines(answer["problems"])]))


def _more_of(row: Answer) -> list[str]:
    numbers = [row.get("local_preference"), row.get("med")]
    communities = [*row.get("communities", ()), *row.get("large_communities", ())]
    return ["" if it is None else str(it) for it in numbers] + [row.get("origin", ""), " ".join(communities)]


def fib(answer: Answer, *, wide: bool, colour: bool, room: int | None = None) -> str:
    rows = [
        [
            row["prefix"],
            row["type"],
            ", ".join(_via(row["prefix"], next_hop) for next_hop in row["next_hops"]),
            str(row["metric"]),
            row["state"],
            row["details"] or "",
        ]
        for row in answer["rows"]
    ]
    if not rows and is_known(answer):
        return "No route of ours, and none planned."
    if not rows:
        return "\n".join([_NONE_THERE if answer["kernel_read"] else _NOT_READ, *problem_lines(answer["problems"])])
    headers = ["PREFIX", "TYPE", "NEXT-HOPS", "METRIC", "STATE", "DETAILS"]
    kept, more = few(rows, room)
    shown = table(headers, kept, colour=colour, spare=[] if wide else ["METRIC", "TYPE"], room=room)
    return "\n".join(filter(None, [shown, left_out(answer, more), *problem_lines(answer["problems"])]))


_NONE_THERE: Final = "No route of ours is there."
_NOT_READ: Final = "The kernel's routes have not been read yet; `ip route show table all proto 179` shows them."


def few(rows: Sequence[_Row], room: int | None) -> tuple[Sequence[_Row], int]:
    """Those that are shown, and how many are not: a terminal gets no more than somebody reads there, a file all."""
    kept = rows if room is None else rows[:ROWS_ON_TERMINAL]
    return kept, len(rows) - len(kept)


def _via(prefix: str, next_hop: str) -> str:
    """As `ip route` prints it: an IPv6 next hop of an IPv4 route with its family."""
    return f"inet6 {next_hop}" if ":" in next_hop and ":" not in prefix else next_hop


def explain(answer: Answer, *, colour: bool, where: str = "") -> str:
    """`where`: on which nodes, where it is more than the one that answers."""
    lines = [f"{answer['kind']} {answer['subject']} on {where or 'node ' + answer['node']}:"]
    rows = [[_mark(hop), hop["place"], hop["text"], hop["reason"] or ""] for hop in answer["hops"]]
    lines.append(table(["", "WHERE", "WHAT", "REASON"], rows, colour=colour).partition("\n")[2])
    fixes = dict.fromkeys(f"! {hop['reason']}: {hop['fix']}" for hop in answer["hops"] if hop["fix"])
    return "\n".join([*lines, *fixes])


def _mark(hop: Answer) -> str:
    if hop.get("neutral"):
        return "--"
    return "ok" if hop["ok"] else "NO"


def left_out(answer: Answer, more: int = 0) -> str:
    """How to see what is not shown: of the table what has no place in an answer, and `more` rows of this one."""
    rest = answer["left_out"] + more
    name = "name a prefix or a peer" if "side" in answer else "name a prefix"
    return f"… and {rest} more: {name}" + (", or `| less`" if more else "") if rest else ""


def _seconds(seconds: int | None) -> str:
    return "no" if seconds is None else f"{seconds} s"
