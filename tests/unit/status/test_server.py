"""The servers over real sockets: who may ask, what they answer, and what happens when they cannot listen."""

from __future__ import annotations

import contextlib
import errno
import shutil
import socket
import stat
from ipaddress import ip_address

import aiohttp
import aiohttp.web
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from agent.diary import Diary
from agent.model import Problem
from agent.settings import Listen
from agent.status.listening import ListenError, listen_tcp, listen_unix
from agent.status.metrics import make_registry
from agent.status.ordering import Commands
from agent.status.server import Answers
from agent.status.serving import serving
from bgp.unixsocket import UnixSocket
from tests.lab.wait import eventually
from tests.unit.status.scene import NOW, Scene, peer


def answers(scene, *, order_drain=print, reset=print, **fields):
    def current():
        return scene.status(**fields)

    def clock():
        return NOW

    registry = make_registry(current, clock=clock, wall=clock)
    return Answers(current, clock=clock, registry=registry, commands=Commands(order_drain, reset), diary=Diary("then"))


@contextlib.asynccontextmanager
async def asked(tmp_path, scene=None, **fields):
    """A client of the unix socket of a running server."""
    path = tmp_path / "bgpilot.sock"
    async with (
        serving(answers(scene or Scene(), **fields), socket_path=path, metrics_address=None, health_address=None),
        aiohttp.ClientSession("http://agent", connector=aiohttp.UnixConnector(str(path))) as client,
    ):
        yield client


async def get(client, path):
    async with client.get(path) as response:
        return response.status, await response.json()


async def post(client, path, text):
    async with client.post(path, data=text) as response:
        return response.status, await response.json()


async def test_the_socket_is_roots_alone_and_gone_afterwards(tmp_path):
    path = tmp_path / "bgpilot.sock"
    async with asked(tmp_path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ("/v1/status", "bgpilot.status/1"),
        ("/v1/peers", "bgpilot.peers/1"),
        ("/v1/peers/tor-a", "bgpilot.peer/1"),
        ("/v1/peers/BGPPeer%2Ftor-a", "bgpilot.peer/1"),
        ("/v1/peers/2001:db8::fe", "bgpilot.peer/1"),
        ("/v1/routes", "bgpilot.routes/1"),
        ("/v1/routes?side=advertised&peer=tor-a&prefix=10.0.0.0/8", "bgpilot.routes/1"),
        ("/v1/fib?prefix=10.244.2.1", "bgpilot.fib/1"),
        ("/v1/diff", "bgpilot.diff/1"),
        ("/v1/events?after=3&last=10", "bgpilot.events/1"),
        ("/v1/explain?subject=default/web", "bgpilot.explain/1"),
    ],
)
async def test_each_question_has_its_answer(tmp_path, path, schema):
    async with asked(tmp_path) as client:
        status, answer = await get(client, path)

    assert (status, answer["schema"]) == (200, schema)


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/v1/peers/nobody", 404, "no peer is called 'nobody'"),
        ("/v1/routes?side=sideways", 400, "received, accepted, advertised"),
        ("/v1/routes?prefix=ten", 400, "'ten' is no prefix"),
        ("/v1/fib?prefix=10.0.0.0/99", 400, "no prefix"),
        ("/v1/events?after=-1", 400, "after '-1' is no number"),
        ("/v1/explain?subject=what", 404, "NAMESPACE/SERVICE"),
        ("/v1/nothing", 404, "Not Found"),
    ],
)
async def test_what_cannot_be_answered_says_why(tmp_path, path, status, says):
    async with asked(tmp_path) as client:
        got, answer = await get(client, path)

    assert got == status
    assert says in answer["error"]


async def test_an_address_of_several_peers_is_answered_with_who_they_are(tmp_path):
    scene = Scene()
    for name in ("eth0", "eth1"):
        address = ip_address(f"fe80::1%{name}")
        scene.peers[address] = peer(address, f"BGPPeer/{name}", 65001)
    async with asked(tmp_path, scene) as client:
        got, answer = await get(client, "/v1/peers/fe80::1")

    assert got == 404
    said = "2 peers are called 'fe80::1': name one of fe80::1%eth0 (BGPPeer/eth0), fe80::1%eth1 (BGPPeer/eth1)"
    assert answer["error"] == said


@pytest.mark.parametrize("path", ["/v1/peers/bad", "/v1/peers/BGPPeer%2Fbad", "/v1/routes?side=advertised&peer=bad"])
async def test_an_object_of_which_no_session_comes_is_not_denied(tmp_path, path):
    scene = Scene()
    scene.problems.add(Problem("malformedObject", "BGPPeer bad", "spec.asn is missing", "Mend it."))
    async with asked(tmp_path, scene) as client:
        got, answer = await get(client, path)

    assert (got, answer["error"]) == (404, "BGPPeer bad: no session comes of it: spec.asn is missing. Mend it.")


async def test_a_question_over_which_our_own_code_falls_is_answered_and_logged_once(tmp_path):
    scene, asked_of = Scene(), [KeyError("tor"), KeyError("tor"), None, KeyError("tor")]

    def current():
        if (error := asked_of.pop(0)) is not None:
            raise error
        return scene.status()

    broken = Answers(
        current, clock=lambda: NOW, registry=CollectorRegistry(), commands=Commands(print, print), diary=Diary("then")
    )
    path = tmp_path / "bgpilot.sock"
    with capture_logs() as logged:
        async with (
            serving(broken, socket_path=path, metrics_address=None, health_address=None),
            aiohttp.ClientSession("http://agent", connector=aiohttp.UnixConnector(str(path))) as client,
        ):
            said = [await get(client, "/v1/peers") for _ in range(4)]

    assert [status for status, _ in said] == [500, 500, 200, 500]
    assert "KeyError: 'tor'" in said[0][1]["error"]
    assert [(it["event"], it["log_level"], it["path"]) for it in logged] == [
        ("answer_failed", "error", "/v1/peers")
    ] * 2
    assert all(isinstance(it["exc_info"], KeyError) for it in logged)


async def test_an_order_to_drain_is_handed_on_with_its_text(tmp_path):
    given = []
    async with asked(tmp_path, order_drain=given.append) as client:
        said = [await post(client, "/v1/drain", "rack 7"), await post(client, "/v1/undrain", "")]

    assert given == ["rack 7", None]
    assert [(status, answer["schema"], answer["drain"]) for status, answer in said] == [
        (200, "bgpilot.order/1", "rack 7"),
        (200, "bgpilot.order/1", None),
    ]


@pytest.mark.parametrize("text", ["two\nlines", "ä" * 124, "x" * 247])
async def test_a_text_that_no_router_can_be_told_is_refused(tmp_path, text):
    given = []
    async with asked(tmp_path, order_drain=given.append) as client:
        status, answer = await post(client, "/v1/drain", text)

    assert (status, given) == (400, [])
    assert "246 bytes" in answer["error"]


async def test_an_order_that_cannot_be_kept_is_refused(tmp_path):
    def full(_text):
        raise OSError(errno.ENOSPC, "No space left on device")

    async with asked(tmp_path, order_drain=full) as client:
        status, answer = await post(client, "/v1/drain", "")

    assert status == 500
    assert "No space left on device" in answer["error"]


async def test_probes_tell_their_reasons(tmp_path):
    async with asked(tmp_path) as client:
        for path in ("/livez", "/readyz"):
            async with client.get(path) as response:
                assert (response.status, await response.text()) == (200, "ok\n")
    async with asked(tmp_path, picture_complete=False, pass_began_at=NOW - 100) as client:
        async with client.get("/readyz") as response:
            assert response.status == 503
            assert (await response.text()).startswith("pictureIncomplete: ")
        async with client.get("/livez") as response:
            assert response.status == 503
            assert (await response.text()).startswith("loopHangs: ")


async def test_metrics_and_probes_are_served_over_tcp_and_the_api_is_not(tmp_path):
    ports = [free_port(), free_port()]
    addresses = [Listen("127.0.0.1", port) for port in ports]
    async with (
        serving(
            answers(Scene()),
            socket_path=tmp_path / "bgpilot.sock",
            metrics_address=addresses[0],
            health_address=addresses[1],
        ),
        aiohttp.ClientSession() as client,
    ):
        async with client.get(f"http://{addresses[0]}/metrics") as response:
            assert response.content_type == "text/plain"
            assert "bgpilot_bgp_peer_up{" in await response.text()
        async with client.get(f"http://{addresses[1]}/readyz") as response:
            assert response.status == 200
        for address in addresses:
            async with client.get(f"http://{address}/v1/status") as response:
                assert response.status == 404
            async with client.post(f"http://{address}/v1/drain") as response:
                assert response.status == 404


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def test_a_socket_left_by_a_dead_agent_is_replaced(tmp_path):
    path = tmp_path / "bgpilot.sock"
    listen_unix(UnixSocket(path)).close()
    assert path.exists()

    listen_unix(UnixSocket(path)).close()


async def test_a_socket_of_a_living_agent_is_left_alone(tmp_path):
    path = tmp_path / "bgpilot.sock"
    async with asked(tmp_path) as client:
        with pytest.raises(ListenError, match=r"another agent answers on .*--run-dir"):
            async with serving(answers(Scene()), socket_path=path, metrics_address=None, health_address=None):
                pass
        assert (await get(client, "/v1/status"))[0] == 200


def test_a_run_dir_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ListenError, match=r"--run-dir.*No such file"):
        listen_unix(UnixSocket(tmp_path / "none" / "bgpilot.sock"))


async def test_a_socket_that_somebody_deletes_is_made_anew_and_that_is_logged_once(tmp_path):
    path = tmp_path / "run" / "bgpilot.sock"
    path.parent.mkdir()
    with capture_logs() as logs:
        async with (
            serving(answers(Scene()), socket_path=path, metrics_address=None, health_address=None, look_seconds=0.01),
            aiohttp.ClientSession("http://agent", connector=aiohttp.UnixConnector(str(path))) as before,
        ):
            assert (await get(before, "/v1/status"))[0] == 200
            shutil.rmtree(path.parent)
            await eventually(path.exists)
            async with aiohttp.ClientSession("http://agent", connector=aiohttp.UnixConnector(str(path))) as after:
                assert (await get(after, "/v1/status"))[0] == 200
            assert (await get(before, "/v1/status"))[0] == 200  # on the connection that it has
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    assert [line["event"] for line in logs] == ["socket_made_anew"]
    assert not path.exists()


async def test_a_socket_that_a_living_agent_has_taken_the_name_of_is_left_to_it(tmp_path):
    path = tmp_path / "bgpilot.sock"
    with capture_logs() as logs:
        async with serving(
            answers(Scene()), socket_path=path, metrics_address=None, health_address=None, look_seconds=0.01
        ):
            path.unlink()
            with listen_unix(UnixSocket(path)) as other:
                other.listen()
                there = path.stat()
                await eventually(lambda: logs)
                other.accept()[0].close()
    assert path.stat().st_ino == there.st_ino
    assert [line["event"] for line in logs] == ["socket_lost"]
    assert "another agent answers" in logs[0]["reason"]


async def test_a_port_that_is_taken_is_named_with_its_flag_and_nothing_goes_on_listening(tmp_path):
    path = tmp_path / "bgpilot.sock"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Listen("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(
            ListenError,
            match=f"127.0.0.1:{address.port} .--metrics-address, BGPILOT_METRICS_ADDRESS.: Address already in use",
        ):
            async with serving(answers(Scene()), socket_path=path, metrics_address=address, health_address=None):
                pass

    assert not path.exists()


def test_no_host_listens_on_both_families():
    listening = listen_tcp("--metrics-address", Listen("", free_port()))
    port = listening.getsockname()[1]
    try:
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port), timeout=5).close()
    finally:
        listening.close()
