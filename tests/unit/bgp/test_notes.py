"""Files of the run directory are written whole or not at all, and nothing of the writing adds up there."""

from __future__ import annotations

import signal
import subprocess
import sys

from bgp.driver.notes import write_private

KILLED = """
import os, signal, sys
from pathlib import Path
from bgp.driver.notes import write_private

Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
write_private(Path(sys.argv[1]), "half")
"""


def test_what_a_killed_process_leaves_is_gone_with_the_next_that_writes(tmp_path):
    file = tmp_path / "exabgp.conf"
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", KILLED, file], check=False).returncode == -signal.SIGKILL
    assert not file.exists()

    write_private(file, "whole")

    assert [path.name for path in tmp_path.iterdir()] == ["exabgp.conf"]
    assert file.read_text() == "whole"
    assert file.stat().st_mode & 0o777 == 0o600


def test_agent_and_speaker_may_write_the_same_file_at_the_same_time(tmp_path, monkeypatch):
    """In a pod each is process 1 of its own."""
    file = tmp_path / "exabgp.conf"
    replace = type(file).replace

    def late(self, target):
        monkeypatch.undo()
        write_private(file, "of the speaker", beside=True)
        return replace(self, target)

    monkeypatch.setattr(type(file), "replace", late)
    write_private(file, "of the agent")

    assert [path.name for path in tmp_path.iterdir()] == ["exabgp.conf"]
    assert file.read_text() == "of the agent"
