"""`bgpilot speaker`: ExaBGP beside an agent that comes and goes."""

from __future__ import annotations

import asyncio
import errno
import os

from bgp.driver import notes, process
from tests.lab.wait import eventually


async def test_on_a_full_disk_exabgp_is_started_again(tmp_path, monkeypatch):
    process.prepare(tmp_path, keep=True)
    starts = tmp_path / "speaker.starts"

    def full(path, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(notes, "write_private", full)
    monkeypatch.setattr(process, "launcher", lambda _: ["sh", "-c", f"echo started >> {starts}; exit 1"])
    ended = asyncio.Event()
    beside = asyncio.create_task(process.run_external(tmp_path, ended))

    await eventually(lambda: len(starts.read_text().splitlines()) == 2)

    ended.set()
    await beside
