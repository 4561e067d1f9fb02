"""The agent's answers as tables: one function per answer, values in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from agent.cli.text import age, table, uptime

Answer: TypeAlias = Mapping[str, Any]


def peers(answer: Answer, *, wide: bool, colour: bool, failed: bool = False) -> str:
    """One line per peer and family; only the first of a peer repeats nothing."""
    headers = ["PEER", "NAME", "AS", "STATE", "UP/DOWN", "HOLD/KA", "FAMILY", "RCVD", "ACPT", "SENT", "LAST-ERROR"]
    more = ["LOCAL", "LOCAL-AS", "ROUTER-ID", "FLAPS"] if wide else []
    rows = [
        row
        for address, peer in answer["peers"].items()
        if not (failed and peer["is_up"])
        for row in _peer_rows(address, peer, wide=wide)
    ]
    lines = [table(headers[:-1] + more + headers[-1:], rows, colour=colour)]
    return "\n".join([*lines, *problem_lines(answer["problems"])])


def _peer_rows(address: str, peer: Answer, *, wide: bool) -> list[list[str]]:
    hold = f"{peer['hold_seconds']}/{peer['keepalive_seconds']}"
    since = uptime(peer["state_seconds"])
    more = [peer["local_address"], str(peer["local_as"]), peer["remote_id"] or "", str(peer["flaps"])] if wide else []
    first = [address, peer["description"], str(peer["remote_as"]), peer["state"], since, hold]
    return [
        [
            *first,
            family,
            *(str(counts[f"{what}_prefixes"]) for what in ("received", "accepted", "sent")),
            *more,
            last_error(peer["last_error"]),
        ]
        for family, counts in peer["address_family"].items()
    ] or [[*first, "", "", "", "", *more, last_error(peer["last_error"])]]


def last_error(error: Answer | None) -> str:
    if error is None:
        return ""
    number = f" {error['code']}/{error['subcode']}" if error["code"] else ""
    times = f" ×{error['count']}" if error["count"] > 1 else ""
    return f"{error['direction']}{number} {error['text']} ({age(error['age_seconds'])} ago{times})"


def peer(answer: Answer, *, colour: bool) -> str:
    facts = [
        ("Peer", f"{answer['address']} ({answer['description']})"),
        ("State", answer["state"]),
        ("Since", uptime(answer["state_seconds"])),
        ("AS", f"{answer['remote_as']}, ours {answer['local_as']}"),
        ("Router id", answer["remote_id"] or "-"),
        ("Local address", answer["local_address"]),
        ("Dials", "no, waits for the peer" if answer["passive"] else "yes"),
        ("Hold/keepalive", f"{answer['hold_seconds']}/{answer['keepalive_seconds']} s"),
        ("Graceful restart", _seconds(answer["graceful_restart_seconds"])),
        ("Flaps", str(answer["flaps"])),
        ("Last error", last_error(answer["last_error"]) or "none"),
    ]
    families = table(
        ["FAMILY", "RCVD", "ACPT", "SENT", "END-OF-RIB"],
        [
            [
                family,
                *(str(counts[f"{what}_prefixes"]) for what in ("received", "accepted", "sent")),
                "yes" if counts["end_of_rib_received"] else "no",
            ]
            for family, counts in answer["address_family"].items()
        ],
        colour=colour,
    )
    return "\n".join([*_facts(facts), "", families, *problem_lines(answer["problems"])])


def routes(answer: Answer, *, wide: bool, colour: bool) -> str:
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
    return "\n".join([table(headers, rows, colour=colour), *_left_out(answer)])


def _more_of(row: Answer) -> list[str]:
    numbers = [row.get("local_preference"), row.get("med")]
    communities = [*row.get("communities", ()), *row.get("large_communities", ())]
    return ["" if it is None else str(it) for it in numbers] + [row.get("origin", ""), " ".join(communities)]


def fib(answer: Answer, *, colour: bool) -> str:
    rows = [
        [
            row["prefix"],
            row["type"],
            ", ".join(row["next_hops"]),
            str(row["metric"]),
            row["state"],
            row["details"] or "",
        ]
        for row in answer["rows"]
    ]
    headers = ["PREFIX", "TYPE", "NEXT-HOPS", "METRIC", "STATE", "DETAILS"]
    return "\n".join([table(headers, rows, colour=colour), *_left_out(answer)])


def explain(answer: Answer, *, colour: bool) -> str:
    lines = [f"{answer['kind']} {answer['subject']} on node {answer['node']}:"]
    rows = [[_mark(hop), hop["place"], hop["text"], hop["reason"] or ""] for hop in answer["hops"]]
    lines.append(table(["", "WHERE", "WHAT", "REASON"], rows, colour=colour).partition("\n")[2])
    fixes = dict.fromkeys(f"! {hop['reason']}: {hop['fix']}" for hop in answer["hops"] if hop["fix"])
    return "\n".join([*lines, *fixes])


def _mark(hop: Answer) -> str:
    if hop.get("neutral"):
        return "--"
    return "ok" if hop["ok"] else "NO"


def status(answer: Answer) -> str:
    identity, picture, peers, routes, fib = (answer[it] for it in ("identity", "picture", "peers", "routes", "fib"))
    facts = [("Node", answer["node"]), ("Version", answer["version"])]
    facts.append(("Phase", answer["phase"] + (" (dry run)" if answer["dry_run"] else "")))
    facts.append(("Healthy", "yes" if answer["healthy"] else "no: " + ", ".join(answer["degraded"])))
    facts.append(("Up", uptime(answer["uptime_seconds"])))
    if identity is not None:
        facts += [
            ("AS", str(identity["asn"]) + (f" (BGPInstance {identity['instance']})" if identity["instance"] else "")),
            ("Router id", f"{identity['router_id']} ({identity['router_id_source']})"),
            ("Addresses", ", ".join(identity["addresses"]) or "-"),
            ("Pod CIDRs", (", ".join(identity["pod_cidrs"]) or "-") + f" (podRoutes {identity['pod_routes']})"),
        ]
    seen = "complete" if picture["complete"] else "incomplete"
    seen += "" if picture["age_seconds"] is None else f", {age(picture['age_seconds'])} old"
    seen += f", not watched: {', '.join(picture['unhealthy'])}" if picture["unhealthy"] else ""
    facts += [
        ("Picture", seen),
        ("Peers", f"{peers['established']} of {peers['configured']} established" + _of_mesh(peers)),
        ("Announced", ", ".join(_counts(routes, ["originated", "wanted", "told", "refused", "failing"]))),
        ("Heard", f"{routes['heard']} prefixes, {routes['not_admitted']} paths not admitted"),
        ("Kernel", ", ".join(_counts(fib, ["installed", "wanted", "failing", "conflicts", "drift"]))),
    ]
    return "\n".join([*_facts(facts), *problem_lines(answer["problems"])])


def _of_mesh(peers: Answer) -> str:
    return f" (mesh {peers['mesh_established']} of {peers['mesh_configured']})"


def _counts(answer: Answer, names: Sequence[str]) -> list[str]:
    return [f"{answer[name]} {name}" for name in names]


def problem_lines(problems: Sequence[Answer]) -> list[str]:
    return [_problem(it) for it in problems]


def _problem(it: Answer) -> str:
    line = f"! {it['subject']}: {it['message']}"
    return f"{line.rstrip('. ')}. Fix: {it['fix']}" if it["fix"] else line


def _left_out(answer: Answer) -> list[str]:
    left_out = answer["left_out"]
    return [f"… and {left_out} more: name a prefix or a peer"] if left_out else []


def _facts(facts: Sequence[tuple[str, str]]) -> list[str]:
    width = max(len(name) for name, _ in facts) + 1
    return [f"{name + ':':<{width}} {value}" for name, value in facts]


def _seconds(seconds: int | None) -> str:
    return "no" if seconds is None else f"{seconds} s"
