"""Configuration, authentication and connections to the API server. The only importer of `kubernetes`.

Of that package (37.0) the configuration loaders and the raw client are used. Its typed models cost 100 MiB and stall
the event loop for seconds on a large list; its Watch and its informer ask again without a pause and never notice a dead
connection.

It refuses to decide when credentials are read again (`agent.cluster.api` does), and to let an exception of the
libraries out: `ClusterConfigError`, `UntrustedError` and `TransportError` leave.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import aiohttp
import yaml

from agent.cluster.inmemory import held_in_memory, is_in_memory, memory_file
from agent.cluster.reflector import TransportError
from agent.loading import without_init

# The first loads the synchronous client (requests, urllib3), the second its dynamic one: 300 modules, 150 ms (37.0).
with without_init("kubernetes", "kubernetes.aio"):
    from kubernetes.aio.client.api_client import ApiClient
    from kubernetes.aio.client.configuration import Configuration
    from kubernetes.aio.config import kube_config
    from kubernetes.aio.config.config_exception import ConfigException
    from kubernetes.aio.config.incluster_config import (
        SERVICE_CERT_FILENAME,
        SERVICE_HOST_ENV_NAME,
        SERVICE_TOKEN_FILENAME,
        InClusterConfigLoader,
    )

# Theirs leaves the key of a client on disk when we are killed (37.0).
kube_config._create_temp_file_with_content = memory_file  # noqa: SLF001  # nothing public says where

API_UNREACHABLE: Final = "apiUnreachable"
CONNECT_SECONDS: Final = 10.0
KEEPALIVE_IDLE_SECONDS: Final = 15
KEEPALIVE_INTERVAL_SECONDS: Final = 5
KEEPALIVE_PROBES: Final = 3
USER_TIMEOUT_MS: Final = 30_000
"""A peer that is gone is noticed by the kernel within 30 s, whether we send or only listen."""
READ_BUFFER_BYTES: Final = 128 * 1024
"""Of one connection; aiohttp stops reading at twice this, which is also the size of the largest chunk."""


class ClusterConfigError(Exception):
    """There is no usable configuration; the text names the file or variable, and what to do."""


class UntrustedError(Exception):
    """The server's certificate is not signed by whom we trust, or for another name."""


class Client:
    """One reading of the credentials, with the connections that use it."""

    def __init__(self, configuration: Configuration, files: Sequence[Path]) -> None:
        """`files`: what it is made of; what the configuration has in memory stands in the first."""
        self.users = 0
        """How many requests run on it."""
        self.url: str = configuration.host
        self._files = files
        self._fingerprint = _fingerprint(files)
        if token := configuration.api_key.get("BearerToken"):
            configuration.api_key["BearerToken"] = token.strip()  # a file's last line end is no part of a header
        # Python 3.13 refuses certificates without identifiers of RFC 5280 that Go accepts and old clusters lack. The
        # chain and the name are verified as ever.
        configuration.disable_strict_ssl_verification = True
        try:
            self._api = ApiClient(configuration)
        except (ssl.SSLError, OSError) as error:
            named = filter(None, (configuration.ssl_ca_cert, configuration.cert_file))
            used = dict.fromkeys(files[0] if is_in_memory(path) else path for path in map(Path, named))
            raise ClusterConfigError(
                f"cannot use the certificates {', '.join(map(str, used))}: {error}. "
                "Check that they are PEM and belong together."
            ) from error
        self._api.default_headers.update(
            {
                "User-Agent": f"bgpilot/{importlib.metadata.version('bgpilot')}",
                "Accept": "application/json",
                # Compressed watches cost the API server's CPU and ours, and arrive in lumps.
                "Accept-Encoding": "identity",
            }
        )
        self._connector = aiohttp.TCPConnector(
            ssl=self._api.rest_client.ssl_context,
            limit=0,  # every watch holds a connection: a limit would be a deadlock
            socket_factory=_watched_socket,
        )
        configuration.client_session_kwargs = {
            "connector": self._connector,
            "trust_env": False,  # Python knows no CIDR in NO_PROXY; a kubeconfig can say proxy-url
            "read_bufsize": READ_BUFFER_BYTES,
            "cookie_jar": aiohttp.DummyCookieJar(),
        }

    async def get(self, path: str, query: Sequence[tuple[str, str]]) -> aiohttp.ClientResponse:
        """Raises UntrustedError or TransportError. The body is not read, and may take any time."""
        return await self._call("GET", path, query=list(query))

    async def send(self, method: str, path: str, content_type: str, body: Mapping[str, Any]) -> aiohttp.ClientResponse:
        """Raises as `get` does."""
        return await self._call(method, path, header_params={"Content-Type": content_type}, body=dict(body))

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: list[tuple[str, str]] | None = None,
        header_params: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
    ) -> aiohttp.ClientResponse:
        try:
            method, url, headers, _, _ = await self._api.param_serialize(
                method, path, query_params=query, header_params=header_params, auth_settings=["BearerToken"]
            )
            answer = await self._api.call_api(
                method,
                url,
                headers,
                body=body,  # as it is: the client would look through each of its values for models, 160 ms of 1 MB
                _request_timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            )
        except aiohttp.ClientConnectorCertificateError as error:
            raise UntrustedError(str(error.certificate_error)) from error
        except aiohttp.ServerTimeoutError as error:  # in its own words one for each path
            what = f"{urlsplit(url).netloc} takes no connection within {CONNECT_SECONDS:.0f} s"
            raise TransportError(API_UNREACHABLE, what) from error
        except (aiohttp.ClientError, OSError) as error:
            raise TransportError(API_UNREACHABLE, str(error) or type(error).__name__) from error
        response: aiohttp.ClientResponse = answer.response
        return response

    def outdated(self) -> bool:
        """The files that it was made of have changed since."""
        return _fingerprint(self._files) != self._fingerprint

    async def close(self) -> None:
        await self._api.rest_client.close()
        await self._connector.close()


class Source(Protocol):
    """Where credentials come from."""

    @property
    def what(self) -> str:
        """For people."""
        ...

    @property
    def renewable(self) -> bool:
        """Reading again may help although no file has changed."""
        ...

    async def load(self) -> Client:
        """Raises ClusterConfigError."""
        ...


def find_source(kubeconfig: Path | None, environ: Mapping[str, str] | None = None) -> Source:
    return KubeconfigFile(kubeconfig) if kubeconfig else ServiceAccount(os.environ if environ is None else environ)


@dataclass(frozen=True, slots=True)
class KubeconfigFile:
    path: Path

    @property
    def what(self) -> str:
        return f"the kubeconfig {self.path}"

    @property
    def renewable(self) -> bool:
        """A program gives the credentials."""
        return any(user.keys() & {"exec", "auth-provider"} for _, user in _users(self._read()))

    async def load(self) -> Client:
        content = self._read()
        folder = self.path.resolve().parent
        configuration = Configuration()
        with held_in_memory():  # read when the client is made, and never again
            try:
                loader = kube_config.KubeConfigLoader(content, config_base_path=str(folder))  # type: ignore[no-untyped-call]  # theirs
                await loader.load_and_set(configuration)  # type: ignore[no-untyped-call]  # theirs
                used = loader.current_context["context"].get("user")
            except (ConfigException, ValueError, TypeError, AttributeError, KeyError, OSError) as error:
                raise self._error(str(error)) from error
            if not (configuration.api_key or configuration.cert_file) and "exec" in dict(_users(content)).get(used, {}):
                raise self._error(f"the program under `exec` of user {used} gives no credentials")
            named = [user["tokenFile"] for _, user in _users(content) if isinstance(user.get("tokenFile"), str)]
            named += [configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file]
            files = (folder / name for name in named if name)
            return Client(configuration, (self.path, *(file for file in files if not is_in_memory(file))))

    def _read(self) -> dict[str, Any]:
        try:
            content = yaml.safe_load(self.path.read_text())
        except OSError as error:
            raise self._error(error.strerror or str(error)) from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise self._error(f"it is not YAML{_place(error)}") from None  # its text quotes the file, tokens and all
        if not isinstance(content, dict):
            raise self._error("it has no members")
        return content

    def _error(self, what: str) -> ClusterConfigError:
        return ClusterConfigError(
            f"cannot use {self.what}: {what}. Give --kubeconfig (BGPILOT_KUBECONFIG) a file with which "
            "`kubectl --kubeconfig FILE version` works."
        )


def _place(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return "" if mark is None else f" (line {mark.line + 1})"


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """Of the pod that we run in."""

    environ: Mapping[str, str]
    token: Path = Path(SERVICE_TOKEN_FILENAME)
    ca: Path = Path(SERVICE_CERT_FILENAME)
    renewable: bool = False

    @property
    def what(self) -> str:
        return f"the pod's service account in {self.token.parent}"

    async def load(self) -> Client:
        if not self.environ.get(SERVICE_HOST_ENV_NAME):
            raise ClusterConfigError(
                f"no --kubeconfig is given, and {SERVICE_HOST_ENV_NAME} is not set, so this is no pod either. "
                "Give --kubeconfig (BGPILOT_KUBECONFIG) a file with which kubectl works."
            )
        configuration = Configuration()
        try:
            loader = InClusterConfigLoader(  # type: ignore[no-untyped-call]  # theirs
                str(self.token), str(self.ca), try_refresh_token=False, environ=self.environ
            )
            loader.load_and_set(configuration)  # type: ignore[no-untyped-call]  # theirs
        except (ConfigException, OSError, UnicodeDecodeError) as error:
            raise ClusterConfigError(
                f"cannot use {self.what}: {error} Set automountServiceAccountToken of the pod to true, "
                "or give --kubeconfig."
            ) from error
        return Client(configuration, (self.token, self.ca))


def _users(content: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Name and settings of each user that is one."""
    entries = [entry for entry in content.get("users") or [] if isinstance(entry, dict)]
    return [(str(entry.get("name")), entry["user"]) for entry in entries if isinstance(entry.get("user"), dict)]


def _fingerprint(files: Sequence[Path]) -> bytes:
    """Of the contents: mounted files are replaced by moving a symbolic link, and times say little."""
    digest = hashlib.sha256()
    for path in files:
        try:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        except OSError:
            digest.update(b"unreadable")  # also a state; what to make of it is decided when it is loaded
    return digest.digest()


def _watched_socket(address: tuple[int, int, int, str, tuple[Any, ...]]) -> socket.socket:
    """A socket whose peer the kernel watches."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_SECONDS)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_SECONDS)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
    return made
