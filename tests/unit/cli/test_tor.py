"""What `bgpilot tor-config` prints for each router system; FRR and BIRD load it in test_agent_tor_config.py."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from agent.cli.tor.dialects import DIALECTS, PASSWORD
from agent.plan.model import Origination
from agent.status.tables import ROWS_MAX
from bgp.model import Password, Route, RouteKey
from tests.unit.cli.test_cli import Agent, bgpilot
from tests.unit.status.scene import TOR, TOR6

SECRET = "not-to-be-seen"


@pytest.fixture
def agent(tmp_path):
    with Agent(tmp_path) as agent:
        scene = agent.scene
        for prefix in ("192.0.2.128/32", "192.0.2.129/32", "198.51.100.0/24"):
            originate(agent, ip_network(prefix))
            scene.announce(TOR, ip_network(prefix), as_path=(64512,))
        more = {"password": Password(SECRET), "ttl_security_hops": 2, "listen_port": 1179}
        scene.peers[TOR] = replace(scene.peers[TOR], **more)
        scene.peers[TOR6] = replace(scene.peers[TOR6], multihop=3, local_address=ip_address("2001:db8::1"))
        yield agent


@pytest.mark.parametrize("vendor", DIALECTS)
def test_the_routers_side_in_the_words_of_each_system(agent, snapshot, vendor):
    said = agent("tor-config", "--vendor", vendor)

    assert SECRET not in said
    assert PASSWORD in said
    assert said == snapshot


def test_one_session_alone_by_name_or_address(agent):
    assert agent("tor-config", "tor-b", "--vendor", "frr") == agent("tor-config", str(TOR6), "--vendor", "frr")
    assert f"neighbor {agent.scene.peers[TOR].local_address} remote-as" not in agent(
        "tor-config", "tor-b", "--vendor", "frr"
    )


def test_an_as_that_nobody_knows_yet_is_asked_for(agent):
    agent.scene.peers[TOR6] = replace(agent.scene.peers[TOR6], peer_asn=None)
    done = bgpilot("tor-config", "tor-b", "--vendor", "frr", "--run-dir", str(agent.run_dir))

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "bgpilot: BGPPeer/tor-b: its AS is not configured (`external`) and not known before the first session; "
        "say it with --router-as\n"
    )
    assert "router bgp 65001" in agent("tor-config", "tor-b", "--vendor", "frr", "--router-as", "65001")


def originate(agent, prefix):
    agent.scene.originated[prefix] = Origination(prefix, ("BGPAdvertisement static",))


def test_what_the_node_refuses_to_announce_the_router_is_not_told_to_take(agent):
    refused = ip_network("203.0.113.128/25")
    originate(agent, refused)
    agent.scene.refused_out[RouteKey(TOR, refused)] = "prefixInUse"

    assert str(refused) in agent("routes", "advertised", "-o", "name")
    assert str(refused) not in agent("tor-config", "--vendor", "frr")


def test_more_than_one_answer_holds_is_not_cut_off_silently(agent):
    for number in range(ROWS_MAX + 1):
        prefix = ip_network(f"10.{number >> 8}.{number & 255}.0/24")
        originate(agent, prefix)
        agent.scene.routes[RouteKey(TOR, prefix)] = Route(prefix, agent.scene.peers[TOR].local_address)
    done = bgpilot("tor-config", "tor-a", "--vendor", "frr", "--run-dir", str(agent.run_dir))

    assert (done.returncode, done.stdout) == (1, "")
    assert "of what is announced; permit ranges by hand" in done.stderr


def test_without_a_router_there_is_nothing_to_print(agent):
    del agent.scene.peers[TOR], agent.scene.peers[TOR6]

    assert agent("tor-config", "--vendor", "frr", code=1) == ""
