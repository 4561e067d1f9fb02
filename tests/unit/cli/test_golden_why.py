"""What is said of what has no session, no route or no sense, word for word: each names the object and what to do."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface

import pytest

from agent.advertising import Advertisement, AdvertisementType, ServiceAddress, ServiceChoice
from agent.intent import ExternalPeer, Selector
from agent.model import Interface, Key, Kind, Problem, Service
from bgp.model import Held, RouteKey
from tests.unit.cli.test_cli import Agent, bgpilot
from tests.unit.status.scene import OWN_PODS, TOR, TOR6, VIP, WEB, missing_secret


def odd(agent):
    """A BGPPeer cannot be read, one is for others, one has no password; one session is down; half of a Service is asked
    for.
    """
    scene = agent.scene
    what = "spec.address = 'tor' is not an IP address: the whole object is not used"
    scene.problems |= {missing_secret(), Problem("malformedObject", "BGPPeer bad", what, "Mend the object: write one.")}
    scene.peers[TOR6] = replace(scene.peers[TOR6], held=Held("secretMissing"))
    scene.states[TOR] = scene.down_state()
    scene.services[WEB] = Service(
        namespace="default",
        name="web",
        cluster_ips=(ip_address("10.96.0.9"),),
        external_ips=(VIP.network_address, ip_address("198.51.100.8")),
    )
    scene.not_advertised[WEB, "198.51.100.8"] = "externalIPNotAllowed"
    external = ServiceChoice(addresses=frozenset({ServiceAddress.EXTERNAL_IP}))
    spine = ExternalPeer(
        name="spine", asn=65000, address=ip_address("192.0.2.99"), node_selector=Selector(labels=(("rack", "b"),))
    )
    agent.fields = {
        "interfaces": (Interface(2, "eth0", up=True, addresses=(ip_interface("192.0.2.1/24"),)),),
        "routers": {Key(Kind.PEER, "", "spine"): spine},
        "own_labels": {"rack": "a"},
        "advertisements": {
            Key(Kind.ADVERTISEMENT, "", "out"): Advertisement(
                name="out", type=AdvertisementType.SERVICE, service=external
            )
        },
    }


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    with Agent(tmp_path_factory.mktemp("odd")) as agent:
        odd(agent)
        assert RouteKey(TOR, OWN_PODS) in agent.scene.routes
        yield agent


@pytest.mark.parametrize(
    "words",
    [
        ("peer", "bad"),
        ("peer", "BGPPeer/bad"),
        ("peer", "spine"),
        ("reset", "bad"),
        ("explain", "bad"),
        ("explain", "10.244.1.0/24"),
        ("explain", "10.244.0.0/16"),
        ("explain", " 192.0.2.1 "),
        ("explain", "192.0.2.0/25"),
        ("explain", "fe80::9%eth0"),
        ("explain", "default/web"),
        ("routes", "advertised", "--peer", "tor-a"),
        ("routes", "advertised", "--peer", "tor-b"),
        ("peers", "-o", "xml"),
        ("events", "--last", "few"),
        ("events", "--last", "-1"),
        ("tor-config", "--vendor", "abacus"),
    ],
    ids=lambda words: " ".join(words).replace("::", "_"),
)
def test_what_is_said(agent, snapshot, words):
    done = bgpilot(*words, BGPILOT_RUN_DIR=str(agent.run_dir))

    assert f"exit code {done.returncode}\n{done.stdout}{done.stderr}" == snapshot
