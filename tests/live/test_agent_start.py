"""Starting the agent where it cannot run: one line that names the thing and the fix; and where it can run all the same.

What a restart would not mend (no exabgp, no capability, a second agent) ends the process with exit code 1, a wrong flag
with 2. What may pass without us (an API server that says no, a port that is taken) is a Problem of a running agent.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.lab.api import EmbeddedApi
from tests.lab.minicluster import (
    API_PORT,
    BGPILOT,
    LAB_HOLD_SECONDS,
    OUR_PROTOCOL,
    Agent,
    MiniCluster,
    custom,
    node_object,
)
from tests.lab.procs import Process, run
from tests.lab.topology import Lab, Node
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

REFUSED, USAGE = 1, 2
START_SECONDS = 90.0
"""Of an agent, on a machine that is busy."""
UNLISTENED = ("--metrics-address=off", "--health-address=off")
HOLD_PORT = "import socket, sys, time; s = socket.create_server((sys.argv[1], int(sys.argv[2]))); time.sleep(600)"
READ_ONLY = 'mount --bind "$0" "$0"; mount -o remount,ro,bind "$0"; exec "$@"'


@pytest.fixture(scope="module")
def site() -> Iterator[Lab]:
    with Lab(nodes=2, families=("ipv4",)) as lab:
        yield lab


@pytest.fixture(scope="module")
def cluster(site: Lab) -> Iterator[MiniCluster]:
    with MiniCluster(site) as cluster:
        cluster.api.apply(custom("BGPInstance", "default", {"mesh": {"holdSeconds": LAB_HOLD_SECONDS}}))
        cluster.api.apply(*(node_object(node) for node in site.nodes.values()))
        yield cluster


@pytest.fixture
def node(site: Lab) -> Node:
    return site.node(1)


@pytest.fixture(autouse=True)
def _clean(site: Lab) -> Iterator[None]:
    """Nothing of one test runs on in the next, whatever became of it."""
    yield
    for node in site.nodes.values():
        node.kill_all()
        node.ip("route", "flush", "proto", OUR_PROTOCOL)


def start(
    node: Node, *flags: str, wrapper: Sequence[Path | str] = (), env: Mapping[str, str] | None = None
) -> CompletedProcess[str]:
    """`bgpilot run` to its end, under `wrapper`."""
    named = [f"--node-name={node.name}", f"--run-dir={node.run_dir / 'run'}", *UNLISTENED, *flags]
    return node.run([*(wrapper or [BGPILOT]), "run", *named], env=env, check=False)


def refusal(done: CompletedProcess[str]) -> str:
    """The one line on why it ended with exit code 1."""
    assert done.returncode == REFUSED, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]  # a traceback is no JSON
    (reason,) = [line["reason"] for line in lines if line["event"] == "cannot_start"]
    assert [line["event"] for line in lines] in (["cannot_start"], ["starting", "cannot_start"])
    return str(reason)


def problem(agent: Agent, reason: str) -> dict[str, str]:
    """The one of this reason that the agent tells, from now on or soon."""
    told = wait_until(
        lambda: [told for told in agent.ask("status")["problems"] if told["reason"] == reason], within=START_SECONDS
    )
    return dict(told[0])


def holding(node: Node, address: str, port: int) -> Process:
    """Some other program that listens there."""
    process = node.start([sys.executable, "-c", HOLD_PORT, address, str(port)], log=f"holder-{port}")
    wait_until(lambda: f":{port} " in node.run(["ss", "-ltnH"]).stdout)
    return process


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "No such file or directory"),
        (": [", "it is not YAML"),
        ("just words", "it has no members"),
        ("{}", "current-context"),
        ("current-context: home\ncontexts: []\nclusters: []\nusers: []\n", "home"),
    ],
    ids=["missing", "no-yaml", "no-mapping", "empty", "no-context"],
)
def test_a_kubeconfig_that_cannot_be_used_is_named_with_the_flag_to_mend_it(
    node: Node, tmp_path: Path, content: str | None, what: str
) -> None:
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)

    reason = refusal(start(node, f"--kubeconfig={path}"))

    assert reason.startswith(f"cannot use the kubeconfig {path}: ")
    assert what in reason
    assert "Give --kubeconfig (BGPILOT_KUBECONFIG) a file" in reason


def test_neither_kubeconfig_nor_service_account_is_said(node: Node) -> None:
    reason = refusal(start(node, env={"KUBERNETES_SERVICE_HOST": ""}))

    assert "no --kubeconfig is given, and KUBERNETES_SERVICE_HOST is not set" in reason


def test_exabgp_that_is_not_installed_is_said_with_the_command_that_installs_it(node: Node, tmp_path: Path) -> None:
    """In a Python environment that has everything that this one has, but exabgp."""
    run([sys.executable, "-m", "venv", "--without-pip", tmp_path])
    (packages,) = tmp_path.glob("lib/python*/site-packages")
    for path in (Path(entry) for entry in sys.path if entry.endswith("site-packages")):
        for package in path.iterdir():
            if not package.name.startswith("exabgp") and not (packages / package.name).exists():
                (packages / package.name).symlink_to(package)
    entry_point: list[Path | str] = [tmp_path / "bin/python", "-c", "from agent.cli.app import main; main()"]

    reason = refusal(start(node, wrapper=entry_point))

    assert reason == "ExaBGP is not installed: pip install 'exabgp>=5.0.15,<6'"


@pytest.mark.parametrize("version", ["4.2.25", "5.0.14", "6.0.0"])
def test_exabgp_of_another_version_is_said_with_the_one_that_is_needed(
    node: Node, tmp_path: Path, version: str
) -> None:
    metadata = tmp_path / f"exabgp-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: exabgp\nVersion: {version}\n")

    reason = refusal(start(node, env={"PYTHONPATH": str(tmp_path)}))

    assert reason == (f"ExaBGP {version} is installed, exabgp>=5.0.15,<6 is needed: pip install 'exabgp>=5.0.15,<6'")


def test_without_the_capability_it_says_which_and_where_to_add_it(node: Node) -> None:
    confined: list[Path | str] = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", BGPILOT]

    reason = refusal(start(node, wrapper=confined))

    assert reason.startswith("no CAP_NET_ADMIN (running as uid 0)")
    assert "securityContext.capabilities.add" in reason


def test_a_run_dir_on_a_read_only_mount_is_named(node: Node) -> None:
    path = node.run_dir / "read-only"
    path.mkdir()

    reason = refusal(
        start(node, f"--run-dir={path}", wrapper=["unshare", "--mount", "sh", "-ec", READ_ONLY, path, BGPILOT])
    )

    assert reason == f"the run directory {path} is not writable. Mount it writable, or give another --run-dir."


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_in_the_place_of_the_run_dir_is_named(node: Node, tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / below

    reason = refusal(start(node, f"--run-dir={path}"))

    assert reason.startswith(f"cannot make the run directory {path}: ")
    assert reason.endswith("Give another --run-dir.")


def test_the_speaker_beside_the_agent_refuses_as_shortly(node: Node, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    metadata = tmp_path / "exabgp-4.2.25.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: exabgp\nVersion: 4.2.25\n")
    cases: list[tuple[Path | str, dict[str, str], int, str]] = [
        (tmp_path / "file", {}, REFUSED, f"bgpilot: cannot use the run directory {tmp_path / 'file'}: File exists."),
        ("run", {}, USAGE, "bgpilot: --run-dir 'run' is not an absolute path"),
        (tmp_path, {"PYTHONPATH": str(tmp_path)}, REFUSED, "bgpilot: ExaBGP 4.2.25 is installed, exabgp>=5.0.15,<6"),
    ]
    for run_dir, env, code, says in cases:
        done = node.run([BGPILOT, "speaker", f"--run-dir={run_dir}"], env=env, check=False)

        assert done.returncode == code
        (line,) = done.stderr.splitlines()
        assert line.startswith(says)


def test_a_second_agent_in_the_network_namespace_is_refused_and_told_which_runs(cluster: MiniCluster) -> None:
    node = cluster.lab.node(1)
    first = cluster.start_agent(node)
    wait_until(lambda: first.ask("status"), within=START_SECONDS)

    reason = refusal(start(node, f"--kubeconfig={cluster.kubeconfig}"))

    assert reason.startswith(f"another bgpilot agent (process {first.process.pid}) runs in this network namespace")
    assert "Stop it first" in reason
    wait_until(lambda: first.ask("status")["phase"] == "IN_SYNC")
    assert first.stop() == 0


@pytest.mark.parametrize(
    ("flag", "variable"),
    [("--metrics-address", "BGPILOT_METRICS_ADDRESS"), ("--health-address", "BGPILOT_HEALTH_ADDRESS")],
)
def test_an_address_that_is_taken_is_named_with_its_flag_and_its_variable(
    cluster: MiniCluster, node: Node, flag: str, variable: str
) -> None:
    holder = holding(node, "127.0.0.1", 9900)

    reason = refusal(start(node, f"--kubeconfig={cluster.kubeconfig}", f"{flag}=127.0.0.1:9900"))

    assert reason == (
        f"cannot listen on 127.0.0.1:9900 ({flag}, {variable}): Address already in use. "
        "`ss -ltnp` shows who listens there. Give another address, or `off`."
    )
    assert not list((node.run_dir / "run").glob("*.sock"))
    holder.kill()


def test_an_address_that_the_node_does_not_have_is_named(cluster: MiniCluster, node: Node) -> None:
    reason = refusal(start(node, f"--kubeconfig={cluster.kubeconfig}", "--metrics-address=192.0.2.1:9817"))

    assert reason == (
        "cannot listen on 192.0.2.1:9817 (--metrics-address, BGPILOT_METRICS_ADDRESS): Cannot assign requested "
        "address. Give another address, or `off`."
    )


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        (
            "NODE_NAME",
            "Not_A_Name",
            "BGPILOT_NODE_NAME 'Not_A_Name' is not a node's name: say what `kubectl get nodes` calls",
        ),
        ("RUN_DIR", "relative", "BGPILOT_RUN_DIR 'relative' is not an absolute path"),
        ("METRICS_ADDRESS", "9817", "BGPILOT_METRICS_ADDRESS '9817' is not HOST:PORT, :PORT or `off`: say for example"),
        ("HEALTH_ADDRESS", "::1:80", "BGPILOT_HEALTH_ADDRESS '::1:80': put an IPv6 address into brackets"),
        ("SPEAKER", "bird", "BGPILOT_SPEAKER 'bird' is not one of child, external"),
        ("ROUTE_PROTOCOL", "300", "BGPILOT_ROUTE_PROTOCOL '300' is not a number between 5 and 255"),
        ("ROUTE_PROTOCOL", "11", "BGPILOT_ROUTE_PROTOCOL 11 is the number of `zebra`"),
        ("LOG_FORMAT", "xml", "BGPILOT_LOG_FORMAT 'xml' is not one of auto, json, console"),
        ("LOG_LEVEL", "loud", "BGPILOT_LOG_LEVEL 'loud' is not one of debug, info, warning, error"),
        ("DRY_RUN", "perhaps", "'--dry-run' (env var: 'BGPILOT_DRY_RUN'): it should be a valid boolean"),
    ],
)
def test_a_wrong_setting_ends_with_two_and_says_where_it_stands_and_what_would_be_right(
    variable: str, value: str, says: str
) -> None:
    done = run([BGPILOT, "run"], env={f"BGPILOT_{variable}": value}, check=False)

    assert done.returncode == USAGE
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_everything_that_a_flag_says_an_environment_variable_can_say(cluster: MiniCluster) -> None:
    node = cluster.lab.node(1)
    run_dir = node.run_dir / "by-environment"
    told = {
        "NODE_NAME": node.name,
        "KUBECONFIG": str(cluster.kubeconfig),
        "RUN_DIR": str(run_dir),
        "METRICS_ADDRESS": "127.0.0.1:9901",
        "HEALTH_ADDRESS": "127.0.0.1:9902",
        "SPEAKER": "external",
        "ROUTE_PROTOCOL": "201",
        "LOG_FORMAT": "console",
        "LOG_LEVEL": "warning",
    }
    process = node.start(
        [BGPILOT, "run"], log="by-environment", env={f"BGPILOT_{name}": text for name, text in told.items()}
    )

    cidr = str(node.pod_cidrs["ipv4"])
    wait_until(lambda: cidr in node.kernel_routes("ipv4", "proto", "201"), within=START_SECONDS)
    assert (run_dir / "bgpilot.sock").is_socket()
    assert "bgpilot_build_info" in node.run(["curl", "-sS", "http://127.0.0.1:9901/metrics"]).stdout
    assert node.run(["curl", "-sS", "http://127.0.0.1:9902/livez"]).stdout == "ok\n"
    wait_until(lambda: "speakerDown" in process.output())
    process.terminate()
    assert process.wait(within=30) == 0
    assert '{"' not in process.output(), "the console's format, not JSON"
    assert "info" not in process.output(), "warnings only"
    node.ip("route", "flush", "proto", "201")


def test_credentials_that_the_api_server_refuses_are_a_problem_and_not_an_exit(cluster: MiniCluster) -> None:
    """And corrected credentials are taken up by the running agent."""
    node, host = cluster.lab.node(1), cluster.lab.hosts["api"]
    with EmbeddedApi(host=str(host.address()), port=API_PORT + 1, netns=host.path, token="right") as api:
        api.apply(node_object(node))
        kubeconfig = api.kubeconfig(cluster.lab.directory / "refused")
        right = kubeconfig.read_text()
        kubeconfig.write_text(right.replace("token: right", "token: expired"))
        agent = Agent(node, node.name, kubeconfig, "--health-address=127.0.0.1:9903")

        told = problem(agent, "apiUnauthorized")
        assert f"does not accept the credentials of the kubeconfig {kubeconfig} (401)" in told["message"]
        assert "may have expired" in told["fix"]
        shown = agent.cli("status")
        assert shown.returncode == 3
        assert "! " in shown.stdout
        assert "(401)" in shown.stdout
        assert node.run(["curl", "-sS", "http://127.0.0.1:9903/livez"]).stdout == "ok\n"
        assert "pictureIncomplete" in node.run(["curl", "-sS", "http://127.0.0.1:9903/readyz"]).stdout

        kubeconfig.write_text(right)

        wait_until(lambda: agent.ask("status")["problems"] == [], within=60)
        assert agent.stop() == 0


def test_a_taken_bgp_port_is_a_problem_that_goes_when_the_port_is_free(cluster: MiniCluster) -> None:
    first, second = cluster.lab.node(1), cluster.lab.node(2)
    holder = holding(second, str(second.address()), 179)
    cluster.start(first, second)

    agent = cluster.agent(second)
    told = problem(agent, "cannotListen")
    assert str(second.address()) in told["message"]
    assert "Stop the other BGP daemon on this node" in told["fix"]
    assert "ss -ltnp" in told["fix"]
    assert second.kernel_routes("ipv4", "proto", "179") == {str(second.pod_cidrs["ipv4"]): []}, "the rest goes on"

    holder.kill()

    cluster.wait_meshed()
    wait_until(lambda: agent.ask("status")["problems"] == [])
