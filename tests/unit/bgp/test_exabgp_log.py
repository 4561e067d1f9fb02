"""What of ExaBGP's log goes on to ours: no password, and not a line for everybody who connects."""

from __future__ import annotations

import asyncio
import logging

import pytest

from bgp.driver.process import ExaProcess, without_quotes

SECRET = "a29saWJyaS03NTEz"


async def logged(tmp_path, caplog, lines, on_trouble=print):
    process = ExaProcess(tmp_path, die_with_parent=False, on_end=print, on_trouble=on_trouble)
    log = asyncio.StreamReader()
    log.feed_data("".join(f"{line}\n" for line in lines).encode())
    log.feed_eof()
    with caplog.at_level(logging.INFO):
        await process._watch(log)
    return [record.getMessage() for record in caplog.records]


async def test_of_many_who_connect_one_is_told(tmp_path, caplog):
    """As ExaBGP 5.0.15 has it: with two lines for each connection that it closes."""
    addresses = [f"10.1.{number // 250}.{number % 250}" for number in range(600)]
    addresses += [f"fd18::{number:x}:beef" for number in range(600)]
    lines = []
    for number, address in enumerate(addresses):
        local = "fd18::11" if ":" in address else "172.18.0.11"
        lines.append(f"incoming-{number}     incoming-{number} {local}-{address}, closing connection")
        lines.append(f"incoming-{number}     connection to {address} closed")

    assert len(await logged(tmp_path, caplog, lines)) == 2


async def test_what_differs_in_words_is_told(tmp_path, caplog):
    said = await logged(tmp_path, caplog, ["reactor  performing shutdown", "reactor  performing reload"])

    assert len(said) == 2


@pytest.mark.parametrize(
    "line",
    [
        f"error message: invalid syntax line 15: \"[(15, 2, 'md5-password'), (15, 16, '{SECRET}')]\"",
        f'configuration   error message: invalid syntax line 15: "{SECRET}"',
        f"line 12: md5-passwort {SECRET}",
    ],
)
async def test_what_is_quoted_of_the_configuration_is_not_told(tmp_path, caplog, line):
    (said,) = await logged(tmp_path, caplog, [line])

    assert SECRET not in said
    assert SECRET not in without_quotes(line)


async def test_why_it_cannot_run_at_all_is_a_trouble_with_its_fix(tmp_path, caplog):
    """As the launcher says it."""
    said, troubles = "ExaBGP 4.2.25 is installed, exabgp>=5.0.15,<6 is needed", []

    await logged(tmp_path, caplog, [f"bgpilot: {said}: pip install 'exabgp>=5.0.15,<6'"], troubles.append)

    assert [(it.reason, it.message, it.fix) for it in troubles] == [
        ("exabgpUnusable", said, "pip install 'exabgp>=5.0.15,<6'")
    ]
