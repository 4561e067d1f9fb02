"""Who may enter the run directory, by how it was before."""

from __future__ import annotations

import stat

import pytest

from agent.orders import FILE_NAME
from agent.settings import SOCKET_NAME
from bgp.driver.notes import TROUBLE
from bgp.driver.process import CONFIGURATION, SOCKET
from bgp.driver.rundir import SharedError, make_run_dir


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_one_is_its_owners_alone(tmp_path):
    make_run_dir(tmp_path / "deep" / "run")

    assert mode(tmp_path / "deep" / "run") == 0o700


@pytest.mark.parametrize("before", [0o777, 0o1777, 0o2777, 0o755, 0o701])
def test_one_that_is_open_is_closed_also_with_all_that_we_write_in_it(tmp_path, before):
    for name in (SOCKET_NAME, FILE_NAME, CONFIGURATION, SOCKET, TROUBLE):
        (tmp_path / name).touch()
    tmp_path.chmod(before)

    make_run_dir(tmp_path)

    assert mode(tmp_path) & 0o777 == 0o700


def test_one_that_holds_what_is_not_ours_is_left_as_it_is(tmp_path):
    (tmp_path / "other").touch()
    tmp_path.chmod(0o755)

    make_run_dir(tmp_path)

    assert mode(tmp_path) == 0o755


@pytest.mark.parametrize("before", [0o777, 0o1777, 0o775, 0o757])
def test_one_that_holds_what_is_not_ours_and_others_write_to_is_refused(tmp_path, before):
    (tmp_path / "other").touch()
    tmp_path.chmod(before)

    with pytest.raises(SharedError, match=f"{tmp_path}.*{before:04o}.*Give another --run-dir"):
        make_run_dir(tmp_path)
    assert mode(tmp_path) == before
