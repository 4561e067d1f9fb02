"""Configuration, credentials that change under way, and what connections are made of."""

import asyncio
import base64
import socket
import ssl
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme

from agent.cluster.api import ApiServer
from agent.cluster.kube import ClusterConfigError, ServiceAccount, _watched_socket
from agent.cluster.reflector import TransportError
from tests.lab.badserver import BadServer, Exchange, answer, cut_inside_chunk, hang, listing, node, watch, watch_list
from tests.lab.wait import eventually
from tests.unit.cluster.watching import kubeconfig, watching


async def status(api: ApiServer) -> int:
    async with api.get("/api/v1/nodes", [("fieldSelector", "metadata.name=a b&c")]) as reply:
        return reply.status


def needs(*tokens: str) -> Any:
    """401 for every other token."""

    async def behave(exchange: Exchange) -> None:
        good = exchange.asked.headers.get("authorization", "").removeprefix("Bearer ").removeprefix("bearer ") in tokens
        await (answer(200) if good else answer(401))(exchange)

    return behave


async def test_a_request_says_who_we_are_and_asks_for_plain_json(tmp_path: Path) -> None:
    async with BadServer(answer(200)) as server:
        api = await ApiServer.open(kubeconfig(tmp_path, server.url, token="t0"))
        assert await status(api) == 200
        await api.close()

    asked = server.asked[0]
    assert asked.path == "/api/v1/nodes"
    assert asked.query == {"fieldSelector": "metadata.name=a b&c"}
    assert asked.headers["user-agent"].startswith("bgpilot/")
    assert asked.headers["accept-encoding"] == "identity"
    assert asked.headers["accept"] == "application/json"
    assert asked.headers["authorization"] == "Bearer t0"


async def test_proxies_of_the_environment_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with BadServer(answer(200)) as server:
        api = await ApiServer.open(kubeconfig(tmp_path, server.url))
        assert await status(api) == 200
        await api.close()


def test_the_kernel_watches_every_connection() -> None:
    made = _watched_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0)))
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE)] + [
        (socket.IPPROTO_TCP, option)
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
    ]
    with made:
        assert [made.getsockopt(*option) for option in options] == [1, 15, 5, 3, 30_000]


async def test_a_token_file_that_was_rotated_is_read_again_on_401(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old\n")
    async with BadServer(needs("new")) as server:
        api = await ApiServer.open(kubeconfig(tmp_path, server.url, tokenFile="token"))
        token.write_text("new\n")
        assert await status(api) == 200
        await api.close()

    assert server.tokens() == ["Bearer old", "Bearer new"]


async def test_a_token_file_that_was_rotated_is_read_again_by_age(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")
    async with BadServer(needs("old", "new")) as server:
        api = await ApiServer.open(kubeconfig(tmp_path, server.url, tokenFile=str(token)), recheck_seconds=0.0)
        await status(api)
        token.write_text("new")
        await status(api)
        await api.close()

    assert server.tokens() == ["Bearer old", "Bearer new"]


async def test_credentials_that_stay_refused_name_their_file_and_are_not_tried_twice(tmp_path: Path) -> None:
    async with BadServer(needs()) as server:
        config = kubeconfig(tmp_path, server.url)
        api = await ApiServer.open(config)
        with pytest.raises(TransportError, match="does not accept the credentials") as caught:
            await status(api)
        await api.close()

    assert caught.value.reason == "apiUnauthorized"
    assert str(config) in caught.value.fix
    assert len(server.asked) == 1


async def test_a_program_that_gives_tokens_is_run_again_on_401(tmp_path: Path) -> None:
    count = tmp_path / "count"
    program = tmp_path / "program.py"
    program.write_text(
        "import json, pathlib\n"
        f"count = pathlib.Path({str(count)!r})\n"
        "number = int(count.read_text()) + 1 if count.exists() else 1\n"
        "count.write_text(str(number))\n"
        "print(json.dumps({'apiVersion': 'client.authentication.k8s.io/v1', 'kind': 'ExecCredential',"
        " 'status': {'token': f't{number}'}}))\n"
    )
    run = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": [str(program)],
        "interactiveMode": "Never",
    }
    async with BadServer(needs("t2")) as server:
        api = await ApiServer.open(kubeconfig(tmp_path, server.url, exec=run))
        assert await status(api) == 200
        await api.close()

    assert server.tokens() == ["Bearer t1", "Bearer t2"]


async def test_a_program_that_gives_no_token_is_an_error_that_names_it(tmp_path: Path) -> None:
    run = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": str(tmp_path / "none"),
        "interactiveMode": "Never",
    }
    config = kubeconfig(tmp_path, "https://127.0.0.1:1", exec=run)

    with pytest.raises(ClusterConfigError, match="the program under `exec` of user u gives no credentials") as caught:
        await ApiServer.open(config)

    assert str(config) in str(caught.value)


async def test_a_watch_survives_a_token_that_is_revoked_under_way(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")
    first = watch_list(node(1), revision=10, then=cut_inside_chunk)

    async def only_new(exchange: Exchange) -> None:
        if exchange.asked.headers["authorization"] == "Bearer new":
            probed = "limit" in exchange.asked.query
            await (listing(node(1), revision=10) if probed else watch(("ADDED", node(2, 20)), then=hang))(exchange)
        else:
            await answer(401)(exchange)

    async with (
        BadServer(first, only_new) as server,
        watching(kubeconfig(tmp_path, server.url, tokenFile=str(token))) as watched,
    ):
        await eventually(lambda: "apiUnauthorized" in watched.reasons())
        token.write_text("new")
        await eventually(lambda: watched.state.healthy)

    assert watched.nodes() == {"n1", "n2"}


def certificate(ca: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(name).configure_cert(context)
    return context


async def test_a_new_certificate_authority_is_read_when_the_old_one_does_not_fit(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    old, new = trustme.CA(), trustme.CA()
    old.cert_pem.write_to_path(str(ca_file))
    async with BadServer(answer(200), tls=certificate(new)) as server:
        api = await ApiServer.open(kubeconfig(tmp_path, server.url, ca=ca_file))
        with pytest.raises(TransportError) as caught:
            await status(api)
        new.cert_pem.write_to_path(str(ca_file))
        assert await status(api) == 200
        await api.close()

    assert caught.value.reason == "apiUntrusted"
    assert str(tmp_path) in caught.value.fix


async def test_a_certificate_for_another_name_is_not_trusted(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(ca_file))
    async with BadServer(answer(200), tls=certificate(authority, "192.0.2.1")) as server:
        api = await ApiServer.open(kubeconfig(tmp_path, server.url, ca=ca_file))
        with pytest.raises(TransportError, match="not trusted"):
            await status(api)
        await api.close()

    assert server.asked == []


async def test_requests_that_run_while_credentials_change_run_to_their_end(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")
    go_on = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.chunk(b"one ")
        await go_on.wait()
        await exchange.chunk(b"two")
        await exchange.end()

    async with BadServer(slow, needs("new")) as server:
        api = await ApiServer.open(kubeconfig(tmp_path, server.url, tokenFile=str(token)))
        async with api.get("/slow", []) as reply:
            token.write_text("new")
            assert await status(api) == 200
            go_on.set()
            assert b"".join([chunk async for chunk in reply.chunks()]) == b"one two"
        await eventually(lambda: server.connections == 0)
        await api.close()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "No such file"),
        ("", "it has no members"),
        ("[]", "it has no members"),
        ("a: [", "it is not YAML"),
        ("\x00", "it is not YAML"),
        ("current-context: x", "Expected key contexts"),
        ("{current-context: x, contexts: [], clusters: []}", "name x"),
        ("{current-context: x, contexts: {}, clusters: 7}", "list"),
        (
            """{current-context: x, contexts: [{name: x, context: {cluster: c}}],
                clusters: [{name: c, cluster: {server: 'https://a', certificate-authority: none.pem}}]}""",
            "none.pem",
        ),
    ],
)
async def test_a_kubeconfig_that_cannot_be_used_is_an_error_with_its_name_and_a_fix(
    tmp_path: Path, content: str | None, what: str
) -> None:
    config = tmp_path / "kubeconfig"
    if content is not None:
        config.write_text(content)

    with pytest.raises(ClusterConfigError) as caught:
        await ApiServer.open(config)

    assert f"cannot use the kubeconfig {config}: " in str(caught.value)
    assert what in str(caught.value)
    assert "Give --kubeconfig" in str(caught.value)


async def test_a_certificate_authority_that_is_none_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not PEM")

    with pytest.raises(ClusterConfigError, match=r"cannot use the certificates .*ca\.pem"):
        await ApiServer.open(kubeconfig(tmp_path, "https://127.0.0.1:1", ca=tmp_path / "ca.pem"))


async def test_certificates_in_the_kubeconfig_itself_are_used_and_never_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is killed would leave a key there."""
    authority = trustme.CA()
    client = authority.issue_cert("client@example.com")
    tls = certificate(authority)
    tls.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(tls)
    user = {
        "client-certificate-data": encoded(client.cert_chain_pems[0]),
        "client-key-data": encoded(client.private_key_pem),
    }
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    async with BadServer(answer(200), tls=tls) as server:
        config = kubeconfig(tmp_path, server.url, ca=encoded(authority.cert_pem), **user)
        api = await ApiServer.open(config, recheck_seconds=0.0)
        first = api._client
        assert [await status(api), await status(api)] == [200, 200]
        assert api._client is first  # nothing has changed
        await api.close()

    assert not [name for name in own_files() if "memfd:kubeconfig" in name]


async def test_certificates_in_the_kubeconfig_itself_that_are_none_are_an_error_that_names_it(tmp_path: Path) -> None:
    config = kubeconfig(tmp_path, "https://127.0.0.1:1", ca=base64.b64encode(b"not PEM").decode())

    with pytest.raises(ClusterConfigError, match=rf"cannot use the certificates {config}: "):
        await ApiServer.open(config)


def encoded(pem: trustme.Blob) -> str:
    return base64.b64encode(pem.bytes()).decode()


def own_files() -> list[str]:
    """That are open; all but the folder that is read for it."""
    return [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]


async def test_a_kubeconfig_without_a_user_is_one_for_a_server_that_asks_for_none(tmp_path: Path) -> None:
    config = tmp_path / "kubeconfig"
    async with BadServer(answer(200)) as server:
        config.write_text(
            "{current-context: x, contexts: [{name: x, context: {cluster: c}}],"
            f" clusters: [{{name: c, cluster: {{server: '{server.url}'}}}}]}}"
        )
        api = await ApiServer.open(config)
        assert await status(api) == 200
        await api.close()

    assert "authorization" not in server.asked[0].headers


async def test_without_kubeconfig_and_pod_the_error_says_what_to_give() -> None:
    with pytest.raises(ClusterConfigError, match=r"KUBERNETES_SERVICE_HOST is not set.* Give --kubeconfig"):
        await ApiServer.open(None, environ={})


async def test_in_a_pod_the_service_account_is_used_and_its_token_re_read(tmp_path: Path) -> None:
    authority = trustme.CA()
    token, ca_file = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("old\n")
    authority.cert_pem.write_to_path(str(ca_file))
    async with BadServer(needs("new"), tls=certificate(authority)) as server:
        environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(server.port)}
        source = ServiceAccount(environ, token, ca_file)
        api = ApiServer(source, await source.load(), asyncio.get_running_loop().time())
        token.write_text("new\n")
        assert await status(api) == 200
        await api.close()

    assert server.tokens() == ["bearer old", "bearer new"]


async def test_a_pod_without_a_service_account_is_an_error_with_a_fix(tmp_path: Path) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "::1", "KUBERNETES_SERVICE_PORT": "443"}

    with pytest.raises(ClusterConfigError, match="automountServiceAccountToken"):
        await ServiceAccount(environ, tmp_path / "token", tmp_path / "ca.crt").load()
