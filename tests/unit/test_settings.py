"""Settings: what is taken, and that each refusal names its flag, the value and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.settings import Listen, LogFormat, SettingsError, SpeakerMode, parse_settings


def test_defaults_are_those_of_a_pod():
    settings = parse_settings(node_name="worker-1")

    assert settings.kubeconfig is None
    assert settings.socket_path == Path("/run/bgpilot/bgpilot.sock")
    assert settings.metrics_address == Listen("", 9817)
    assert settings.health_address == Listen("127.0.0.1", 9818)
    assert settings.speaker is SpeakerMode.CHILD
    assert settings.route_protocol == 179
    assert settings.log_format is LogFormat.AUTO
    assert settings.namespace == "bgpilot-system"
    assert not settings.cleanup_on_uninstall
    assert settings.daemon_set == "bgpilot"


@pytest.mark.parametrize(
    ("text", "listen"),
    [
        (":1", Listen("", 1)),
        ("127.0.0.1:65535", Listen("127.0.0.1", 65535)),
        ("[::1]:80", Listen("::1", 80)),
        ("off", None),
    ],
)
def test_addresses_are_host_and_port(text, listen):
    assert parse_settings(node_name="a", metrics_address=text).metrics_address == listen
    assert listen is None or str(listen) == text


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"node_name": ""}, "--node-name '' is not a node's name"),
        ({"node_name": "Worker_1"}, "--node-name 'Worker_1'"),
        ({"run_dir": "run"}, "--run-dir 'run' is not an absolute path"),
        ({"run_dir": "/" + "x" * 120}, "at most 107 bytes"),
        ({"metrics_address": "9817"}, "--metrics-address '9817' is not HOST:PORT"),
        ({"metrics_address": ":0"}, "--metrics-address ':0'"),
        ({"health_address": ":70000"}, "--health-address ':70000'"),
        ({"health_address": "::1:9818"}, r"brackets, as in \[::1\]:9817"),
        ({"speaker": "frr"}, "--speaker 'frr' is not one of child, external"),
        ({"route_protocol": "bgp"}, "--route-protocol 'bgp' is not a number"),
        ({"route_protocol": "256"}, "--route-protocol '256'"),
        ({"route_protocol": "12"}, "--route-protocol 12 is the number of `bird`"),
        ({"route_protocol": "2"}, "is the number of `kernel`"),
        ({"daemon_set": ""}, "--daemonset '' is not a DaemonSet's name"),
        ({"daemon_set": "a/b"}, "--daemonset 'a/b'"),
        ({"log_format": "xml"}, "--log-format 'xml' is not one of auto, json, console"),
        ({"log_level": "loud"}, "--log-level 'loud' is not one of debug, info, warning, error"),
    ],
)
def test_each_refusal_names_the_flag_and_the_value(given, says):
    with pytest.raises(SettingsError, match=says):
        parse_settings(**{"node_name": "worker-1", **given})
