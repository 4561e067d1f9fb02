"""What a shell offers at Tab: a real bash with the script that we print; the other shells by what their scripts ask."""

from __future__ import annotations

import os
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest

from agent.cli.app import COMMANDS
from agent.cli.completion import ASKED_BY_SHELL, Shell
from tests.unit.cli.test_cli import Agent, bgpilot
from tests.unit.status.scene import peer

PROGRAMS = Path(sys.executable).parent
TAB = """
source /dev/stdin <<< "$SCRIPT"
COMP_LINE="$*" COMP_POINT=${#COMP_LINE} COMP_WORDBREAKS=$BREAKS
_bgpilot_completion bgpilot
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def agent(tmp_path):
    with Agent(tmp_path) as agent:
        yield agent


def offered(run_dir, *words, breaks=" =:"):
    """What bash offers for the last of these words; `breaks` end a word, of which the last part alone is replaced."""
    command = ["bash", "--norc", "-c", TAB, "bash", "bgpilot", *words]
    mine = {"PATH": f"{PROGRAMS}:{os.environ['PATH']}", "BGPILOT_RUN_DIR": str(run_dir)}
    with_script = {**os.environ, **mine, "BREAKS": breaks, "SCRIPT": bgpilot("completion", "bash").stdout}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=with_script)
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_commands_options_and_their_values(tmp_path):
    assert sorted(offered(tmp_path, "")) == sorted(COMMANDS)
    assert offered(tmp_path, "und") == ["undrain"]
    assert offered(tmp_path, "peers", "--f") == ["--failed"]
    assert offered(tmp_path, "peers", "-o", "j") == ["json"]
    assert offered(tmp_path, "routes", "a") == ["accepted", "advertised"]


@pytest.mark.parametrize("words", [["peer"], ["explain"], ["routes", "--peer"], ["res"]])
def test_bash_completes_names_of_peers_where_one_is_asked_for(agent, words):
    assert offered(agent.run_dir, *words, "tor") == ["tor-a", "tor-b"]


def test_names_are_those_that_the_agent_of_this_run_directory_knows(agent, tmp_path):
    everybody = ["worker-2", "192.0.2.2", "tor-a", "192.0.2.254", "tor-b", "2001:db8::fe"]
    assert sorted(offered(agent.run_dir, "peer", "")) == sorted(everybody)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    assert offered(agent.run_dir, "peer", "--run-dir", str(elsewhere), "t") == []


@pytest.mark.parametrize(
    ("typed", "breaks", "offers"),
    [
        ("2001", " =:", "2001:db8::fe"),
        ("2001:", " =:", "db8::fe"),
        ("2001:db8::f", " =:", "fe"),
        ("--peer=2001:d", " =:", "db8::fe"),
        ("2001:db8::f", " =", "2001:db8::fe"),
        ("'2001:db8::f", " =:", "2001:db8::fe"),
    ],
)
def test_bash_completes_an_address_though_a_colon_ends_a_word_for_it(agent, typed, breaks, offers):
    assert offered(agent.run_dir, "routes", *([] if "=" in typed else ["--peer"]), typed, breaks=breaks) == [offers]


def test_what_is_offered_stands_for_one_peer_and_explain_takes_what_several_are_called(agent):
    for address, name in (("192.0.2.7", "gw"), ("192.0.2.8", "gw"), ("192.0.2.9", "worker-2")):
        agent.scene.peers[ip_address(address)] = peer(ip_address(address), f"BGPPeer/{name}", 65009)

    assert sorted(offered(agent.run_dir, "peer", "BGPPeer/")) == ["BGPPeer/tor-a", "BGPPeer/tor-b", "BGPPeer/worker-2"]
    assert offered(agent.run_dir, "peer", "g") == []
    assert offered(agent.run_dir, "explain", "g") == ["gw"]
    assert offered(agent.run_dir, "reset", "w") == []
    names = offered(agent.run_dir, "peer", "")
    assert {"node/worker-2", "BGPPeer/worker-2"} < set(names)
    assert [bgpilot("peer", it, BGPILOT_RUN_DIR=str(agent.run_dir)).stderr for it in names] == [""] * len(names)


def test_without_an_agent_nothing_is_offered_and_nothing_said(tmp_path):
    assert offered(tmp_path, "peer", "t") == []


@pytest.mark.parametrize("typed", ["exp tor", "routes --peer=tor"])
@pytest.mark.parametrize(
    ("shell", "says"),
    [("zsh", '_arguments \'*: :(("tor-a"\n"tor-b"))\'\n'), ("fish", "tor-a\ntor-b\n")],
)
def test_the_others_are_answered_in_their_own_language(agent, shell, says, typed):
    """Their scripts call us with these variables, and care for `--peer=`; tried by hand with zsh 5.9 and fish 3.6."""
    script = bgpilot("completion", shell).stdout
    asked = {ASKED_BY_SHELL: f"complete_{shell}", "_TYPER_COMPLETE_ARGS": f"bgpilot {typed}"}
    asked |= {"_TYPER_COMPLETE_FISH_ACTION": "get-args"} if shell == "fish" else {}
    done = bgpilot(**asked, BGPILOT_RUN_DIR=str(agent.run_dir))

    assert all(f"{name}=" in script for name in asked)
    assert done.stdout == says


@pytest.mark.parametrize("shell", Shell)
def test_each_shell_has_a_script(shell):
    assert "bgpilot" in bgpilot("completion", shell).stdout


def test_another_shell_is_refused_with_the_ones_there_are():
    done = bgpilot("completion", "tcsh")

    assert done.returncode == 2
    assert "'bash', 'zsh', 'fish'" in done.stderr
