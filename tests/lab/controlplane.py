"""A real Kubernetes control plane for tests: etcd, kube-apiserver and, if wished, kube-controller-manager.

Each lives in a folder of its own under the temporary directory and speaks over a unix socket to its etcd, so any number
run side by side. In this network namespace the API server listens on a free port of 127.0.0.1; in a given one, on port
6443 of all its addresses. All methods block; from a coroutine call them through `asyncio.to_thread`.

It refuses to outlive the test, even one that is killed: see leash.py. It refuses to fake: no admission, validation or
authorization is turned off; a default service account exists only where a controller makes it.
"""

import base64
import http.client
import ipaddress
import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.lab.gobuild import binary
from tests.lab.kubeapi import ApiError, KubeApi
from tests.lab.leash import Leash, frozen, inside
from tests.lab.procs import Process
from tests.lab.wait import wait_until

READY_SECONDS = 120.0
"""It takes 2 to 6 s on two idle cores."""

STOP_SECONDS = 30.0
"""An orderly end takes 1 to 2 s; then it is killed."""

ADMIN = "admin"
_CONTROLLERS = "controllers"
_ETCD = "unix://etcd:0"
"""A socket file `etcd:0` in the folder that the programs run in; etcd 3.6 insists on the form host:port."""
_MASTERS = ("system:masters",)


class ControlPlane:
    """`with ControlPlane() as cluster:` gives one that is ready."""

    def __init__(
        self,
        *,
        netns: Path | None = None,
        addresses: Sequence[str] = ("127.0.0.1",),
        service_cidrs: Sequence[str] = ("10.96.0.0/16",),
        users: Mapping[str, Sequence[str]] | None = None,
        controllers: Sequence[str] = (),
        apiserver_flags: Sequence[str] = (),
        controller_flags: Sequence[str] = (),
    ) -> None:
        """Programs that do not exist yet are built first, which takes minutes once.

        `netns` is the file of a namespace (/run/netns/NAME); `addresses` are the ones clients use, the first in the
        URL and of the first service range's family. `users` maps a user with a static token to its groups; `admin` is
        always there. `controllers` are names as in `kube-controller-manager --controllers`; none: it is not started.
        """
        self._netns = netns
        self._addresses = tuple(addresses)
        self._service_cidrs = tuple(service_cidrs)
        self._controllers = tuple(controllers)
        self._apiserver_flags = tuple(apiserver_flags)
        self._controller_flags = tuple(controller_flags)
        self._groups = {**(users or {}), ADMIN: _MASTERS, _CONTROLLERS: _MASTERS}
        self._tokens = {user: secrets.token_hex(16) for user in self._groups}
        for name in ("etcd", "kube-apiserver", "kubectl", *(["kube-controller-manager"] if controllers else [])):
            binary(name)

    def __enter__(self) -> Self:
        self._leash = Leash(self._netns)
        self.folder = self._leash.folder
        self.running: dict[str, Process] = {}  # by the name of the program; `frozen(…)` makes one hang
        self._reserved = None if self._netns else _reserve_port(self._addresses[0])
        self.port: int = self._reserved.getsockname()[1] if self._reserved else 6443
        try:
            if self._netns is not None:  # a client inside the namespace reaches its own addresses over lo
                subprocess.run([*inside(self._netns), "ip", "link", "set", "lo", "up"], check=True)
            self._write_secrets()
            self.rotate_ca()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def server(self) -> str:
        """The URL that clients use."""
        host = self._addresses[0]
        return f"https://[{host}]:{self.port}" if ":" in host else f"https://{host}:{self.port}"

    @property
    def ca(self) -> Path:
        """PEM file of the authority that signed the API server's certificate."""
        return self.folder / "ca.pem"

    def token(self, user: str = ADMIN) -> str:
        return self._tokens[user]

    def api(self, token: str | None = None) -> KubeApi:
        """A client with this token, or the administrator's; connections are made in the namespace of the API server."""
        return KubeApi(self.server, self.ca.read_bytes(), token or self.token(), self._netns)

    def kubeconfig(self, token: str | None = None, *, token_file: Path | None = None, server: str = "") -> Path:
        """A kubeconfig with the administrator's token, the given one, or a file with one that a test may rewrite.

        `server` is another URL to reach it by.
        """
        user = {"tokenFile": str(token_file)} if token_file else {"token": token or self.token()}
        cluster = {"server": server or self.server, "certificate-authority": str(self.ca)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        }
        descriptor, path = tempfile.mkstemp(prefix="kubeconfig-", suffix=".json", dir=self.folder)  # JSON is YAML
        with os.fdopen(descriptor, "w") as file:
            json.dump(config, file)
        return Path(path)

    def service_account_token(self, namespace: str, name: str, seconds: int = 3600) -> str:
        """A token as a pod gets it; the API server grants no less than 600 s."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        }
        token: str = self.api().post(path, body)["status"]["token"]
        return token

    def kubectl(self, *args: str, stdin: str | None = None, token: str | None = None) -> str:
        """What kubectl prints. CalledProcessError carries its `stderr`, which is also shown."""
        done = subprocess.run(
            [*inside(self._netns), str(binary("kubectl")), f"--kubeconfig={self.kubeconfig(token)}", *args],
            input=stdin,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder)},
            capture_output=True,
            text=True,
            timeout=READY_SECONDS,
            check=False,
        )
        if done.returncode:
            error = subprocess.CalledProcessError(done.returncode, ["kubectl", *args], done.stdout, done.stderr)
            error.add_note(done.stderr)
            raise error
        return done.stdout

    def apply(self, *manifests: Path | str | Mapping[str, Any], token: str | None = None) -> str:
        """`kubectl apply --server-side --validate=strict`: files, YAML text and objects. Unknown fields are errors.

        A custom resource right after its definition needs `kubectl("wait", "--for=condition=Established", …)` between.
        """
        texts = []
        for manifest in manifests:
            match manifest:
                case Path():
                    texts.append(manifest.read_text())
                case str():
                    texts.append(manifest)
                case _:
                    texts.append(json.dumps(manifest))
        return self.kubectl(
            "apply", "--server-side", "--validate=strict", "-f", "-", stdin="\n---\n".join(texts), token=token
        )

    def start(self) -> None:
        """Start what does not run, and return when all of it answers."""
        if "etcd" not in self.running:
            self._start("etcd", self._etcd_flags())
        if "kube-apiserver" not in self.running:
            self._start("kube-apiserver", self._kube_apiserver_flags())
        wait_until(self._ready, within=READY_SECONDS)
        if self._controllers and "kube-controller-manager" not in self.running:
            self._start("kube-controller-manager", self._controller_manager_flags())

    def stop_apiserver(self) -> None:
        """End it in order: it ends its watches first. `start()` brings it back at the same address."""
        self.running.pop("kube-apiserver").stop(within=STOP_SECONDS)

    def kill_apiserver(self) -> None:
        """End it as a crash would."""
        self.running.pop("kube-apiserver").kill()

    def restart_apiserver(self) -> None:
        self.stop_apiserver()
        self.start()

    def rotate_ca(self) -> None:
        """Write a new authority to `ca` and a certificate signed by it. A running API server needs a restart."""
        names = [*self._addresses, "127.0.0.1", "::1", "localhost", "kubernetes.default.svc"]
        names += [str(ipaddress.ip_network(cidr)[1]) for cidr in self._service_cidrs]
        authority = trustme.CA()
        serving = authority.issue_cert(*dict.fromkeys(names))
        serving.private_key_and_cert_chain_pem.write_to_path(str(self.folder / "serving.pem"))
        written = self.folder / "ca.pem.new"
        authority.cert_pem.write_to_path(str(written))
        written.rename(self.ca)  # a client that reads it now sees the old one or the new one

    def compact(self) -> int:
        """Let etcd forget its history, as the API server does every five minutes; answers the revision it begins with.

        The API server keeps what it has in its watch cache until it is restarted.
        """
        revision = self.revision()
        self._etcd("/v3/kv/compaction", {"revision": revision, "physical": True})
        return revision

    def revision(self) -> int:
        """What etcd is at."""
        ranged = self._etcd("/v3/kv/range", {"key": base64.b64encode(b"/registry").decode()})
        return int(ranged["header"]["revision"])

    def _etcd(self, path: str, body: Mapping[str, Any]) -> Any:
        """etcd's JSON gateway, over the socket that the API server uses."""
        connection = http.client.HTTPConnection("etcd")
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.connect(str(self.folder / "etcd:0"))
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            said = answer.read()
        finally:
            connection.close()
        if answer.status != http.HTTPStatus.OK:
            raise ApiError("POST", path, answer.status, said)
        return json.loads(said)

    def backup(self) -> Path:
        """A copy of the store as of now, while all goes on: for `restore`."""
        copy = Path(tempfile.mkdtemp(prefix="backup-", dir=self.folder))
        with frozen(self.running["etcd"]):  # what a crash at this instant would leave, which etcd recovers from
            shutil.copytree(self.folder / "data", copy, dirs_exist_ok=True)
        return copy

    def restore(self, backup: Path) -> None:
        """Go back to a backup, as after a disaster: resource versions that clients have seen lie in the future then."""
        self.kill_apiserver()
        self.running.pop("etcd").kill()
        shutil.rmtree(self.folder / "data")
        shutil.copytree(backup, self.folder / "data")
        self.start()

    def close(self) -> None:
        """End all of it at once and remove the folder. May be called again."""
        self.running.clear()
        self._leash.release()
        if self._reserved is not None:
            self._reserved.close()

    def _start(self, name: str, flags: Sequence[str]) -> None:
        self.running[name] = self._leash.start(name, [binary(name), *flags])

    def _ready(self) -> bool:
        for name, process in self.running.items():
            if not process.alive:  # waiting on would be in vain, so this is not an error that means "not yet"
                raise RuntimeError(f"{name} ended with {process.popen.returncode}:\n{process.tail()}")
        try:
            return bool(self.api().get("/readyz") == "ok")
        except (ApiError, http.client.HTTPException):
            return False

    def _write_secrets(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        (self.folder / "service-account.pem").write_bytes(key)
        users = (f'{self._tokens[user]},{user},{user},"{",".join(groups)}"\n' for user, groups in self._groups.items())
        (self.folder / "tokens.csv").write_text("".join(users))

    def _etcd_flags(self) -> list[str]:
        client, peer = _ETCD, "unix://peer:0"
        return [
            "--name=test",
            f"--data-dir={self.folder}/data",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=test={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]

    def _kube_apiserver_flags(self) -> list[str]:
        return [
            f"--etcd-servers={_ETCD}",
            f"--secure-port={self.port}",
            *self._address_flags(),
            f"--tls-cert-file={self.folder}/serving.pem",
            f"--tls-private-key-file={self.folder}/serving.pem",
            f"--token-auth-file={self.folder}/tokens.csv",
            "--authorization-mode=RBAC",
            f"--service-cluster-ip-range={','.join(self._service_cidrs)}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.folder}/service-account.pem",
            f"--service-account-signing-key-file={self.folder}/service-account.pem",
            "--allow-privileged=true",
            # Without this, 1.36 keeps watches open for 60 s after SIGTERM, and itself alive.
            "--shutdown-watch-termination-grace-period=2s",
            *self._apiserver_flags,
        ]

    def _address_flags(self) -> list[str]:
        if self._netns is None:
            # A loopback address is refused as the endpoint of the Service `kubernetes`, so that one stays without.
            return [
                f"--bind-address={self._addresses[0]}",
                "--advertise-address=192.0.2.1",
                "--endpoint-reconciler-type=none",
                "--permit-port-sharing=true",
            ]
        everywhere = "::" if any(":" in address for address in self._addresses) else "0.0.0.0"
        return [f"--bind-address={everywhere}", f"--advertise-address={self._addresses[0]}"]

    def _controller_manager_flags(self) -> list[str]:
        return [
            f"--kubeconfig={self.kubeconfig(self._tokens[_CONTROLLERS])}",
            f"--controllers={','.join(self._controllers)}",
            "--leader-elect=false",
            "--secure-port=0",
            f"--service-account-private-key-file={self.folder}/service-account.pem",
            f"--root-ca-file={self.ca}",
            *self._controller_flags,
        ]


def _reserve_port(address: str) -> socket.socket:
    """A port that stays ours over restarts: held by a socket that never listens and lets the API server share it."""
    holder = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    holder.bind((address, 0))
    return holder
