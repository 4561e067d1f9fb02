"""One agent in each network namespace, and what an agent without the right to write routes is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.kernel.lock import InstanceLock, LockedError, capability_advice, missing_capabilities
from tests.lab.realkernel import fresh_netns

pytestmark = pytest.mark.live


def test_a_second_agent_in_the_same_namespace_is_refused_and_told_which_runs():
    with fresh_netns(), InstanceLock(), pytest.raises(LockedError, match=f"process {os.getpid()}.*Stop it"):
        InstanceLock().acquire()


def test_agents_in_two_namespaces_do_not_meet():
    with fresh_netns(), InstanceLock(), fresh_netns(), InstanceLock() as second:
        second.release()


def test_the_lock_can_be_had_again_after_release():
    with fresh_netns():
        for _ in range(2):
            with InstanceLock():
                pass


def test_the_lock_goes_with_a_process_that_is_killed():
    code = "import agent.kernel.lock as l, os; l.InstanceLock().acquire(); os.kill(os.getpid(), 9)"
    with fresh_netns():
        done = subprocess.run([sys.executable, "-c", code], check=False)
        assert done.returncode == -9

        with InstanceLock():
            pass


def test_we_may_write_routes():
    assert missing_capabilities() == ()


@pytest.mark.parametrize(("effective", "missing"), [("0000000000000400", ("CAP_NET_ADMIN",)), ("0000000000001000", ())])
def test_a_missing_capability_is_named(tmp_path: Path, effective, missing):
    status = tmp_path / "status"
    status.write_text(f"Name:\tagent\nCapPrm:\t000001ffffffffff\nCapEff:\t{effective}\nCapBnd:\t000001ffffffffff\n")

    assert missing_capabilities(status) == missing


def test_a_process_without_the_capability_sees_that_it_is_missing():
    code = "from agent.kernel.lock import *; print(missing_capabilities())"
    argv = ["setpriv", "--bounding-set=-net_admin", sys.executable, "-c", code]

    done = subprocess.run(argv, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "('CAP_NET_ADMIN',)"


def test_the_advice_names_the_capability_and_where_to_add_it():
    assert "add NET_ADMIN to securityContext.capabilities.add" in capability_advice(("CAP_NET_ADMIN",))
