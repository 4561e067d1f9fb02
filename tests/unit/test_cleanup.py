"""Which files of a run directory are ours to remove (`agent.cleanup`). Kernel and processes: tests/live."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from agent.cleanup import clean_run_dir, is_speaker_there
from bgp.driver.notes import write_private

OURS = (
    "drain",
    "drain.new",
    "exabgp.conf",
    "exabgp.conf.new",
    "exabgp.conf.tmp",
    "exabgp.conf.speaker.tmp",
    "exabgp.conf.new.tmp",
    "exabgp.conf.17.tmp",
    "speaker.trouble",
    "speaker.trouble.tmp",
    "speaker.hung",
    "speaker.hung.tmp",
    ".writable",
    ".writable.17",
    "tmpabc_1234",
)
OTHERS = ("exabgp.conf.bak", "exabgp.conf.old.tmp", "drain.txt", "notes", "bgpilot.sock.old", "writable.17")


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    found = tmp_path / "run"
    found.mkdir()
    return found


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))


def fill(run_dir: Path) -> None:
    for name in OURS:
        write_private(run_dir / name, "")
    for name in ("bgpilot.sock", "speaker.sock"):
        make_socket(run_dir / name)


def test_files_of_ours_go_and_the_directory_with_them(run_dir: Path):
    fill(run_dir)
    done = clean_run_dir(run_dir)

    assert not run_dir.exists()
    assert len(done.removed) == len(OURS) + 2 + 1
    assert (done.refused, done.alone) == ((), ())


def test_files_of_others_stay_and_so_does_the_directory(run_dir: Path):
    fill(run_dir)
    for name in OTHERS:
        (run_dir / name).touch()
    clean_run_dir(run_dir)

    assert {path.name for path in run_dir.iterdir()} == set(OTHERS)


def test_a_dry_run_names_the_same_and_removes_nothing(run_dir: Path):
    fill(run_dir)
    would = clean_run_dir(run_dir, dry_run=True)

    assert {path.name for path in run_dir.iterdir()} == {*OURS, "bgpilot.sock", "speaker.sock"}
    assert clean_run_dir(run_dir) == would


def test_what_has_a_name_of_ours_and_is_something_else_is_left_alone(run_dir: Path):
    (run_dir / "drain").mkdir()
    (run_dir / "bgpilot.sock").touch()
    (run_dir / "exabgp.conf").symlink_to("/etc/passwd")
    done = clean_run_dir(run_dir)

    assert len(list(run_dir.iterdir())) == len(done.alone) == 3
    assert done.removed == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_left_alone(run_dir: Path):
    (run_dir / "drain").touch()
    os.chown(run_dir / "drain", 1234, 1234)

    assert clean_run_dir(run_dir).removed == ()
    assert (run_dir / "drain").exists()


def test_an_empty_directory_in_which_nothing_of_ours_was_is_not_ours(run_dir: Path):
    assert clean_run_dir(run_dir).removed == ()
    assert run_dir.exists()


def test_where_there_is_no_directory_there_is_nothing_to_remove(tmp_path: Path):
    done = clean_run_dir(tmp_path / "none")

    assert (done.removed, done.refused, done.alone) == ((), (), ())


async def test_to_look_for_exabgp_leaves_the_directory_as_it_was(run_dir: Path):
    write_private(run_dir / "exabgp.conf", "")
    nobody = await is_speaker_there(run_dir, within=0.01)
    before = {path.name for path in run_dir.iterdir()}
    make_socket(run_dir / "speaker.sock")

    assert nobody is await is_speaker_there(run_dir, within=0.01) is False
    assert before == {"exabgp.conf"}
    assert (run_dir / "speaker.sock").is_socket()
