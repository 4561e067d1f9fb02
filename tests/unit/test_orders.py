"""What is kept of `bgpilot drain` (`agent.orders`)."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from agent.orders import Orders


def test_there_is_no_order_in_a_new_run_directory(tmp_path: Path):
    assert Orders(tmp_path).drain() is None


@pytest.mark.parametrize("text", ["", "rack 7", "Übergabe"])
def test_an_order_is_there_for_the_next_agent_and_for_root_alone(tmp_path: Path, text: str):
    Orders(tmp_path).keep(text)

    assert Orders(tmp_path).drain() == text
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_an_order_that_is_taken_back_is_gone(tmp_path: Path):
    orders = Orders(tmp_path)
    orders.keep("rack 7")
    orders.keep(None)
    orders.keep(None)

    assert orders.drain() is None
    assert list(tmp_path.iterdir()) == []


def test_an_order_that_cannot_be_read_is_one(tmp_path: Path):
    (tmp_path / "drain").mkdir()

    assert Orders(tmp_path).drain() == ""
