"""`kubectl bgpilot map`: one page that needs nothing else, says all in words too, and takes no text for markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise
from typing import NamedTuple
from xml.etree import ElementTree as ET

import pytest

from agent.kubectl.drawing import SIGNS, WIDTH
from agent.kubectl.page import STYLE
from agent.kubectl.picture import GROUP_MAX, MISSING_MAX, Look
from tests.unit.kubectl.fakecluster import PAST, router_down, router_up, state_of

RACK = "topology.kubernetes.io/rack"
EVIL = "</text></svg><script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;]]>--><style>*{display:none}</style>"
SUMMARY = "4 nodes (2 healthy, 1 degraded, 1 unknown); 7 sessions (4 up, 1 down, 1 meant, 1 unknown) with routers"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def racks(cluster):
    """Two racks with a router each, and a router of both; one session is lost, one shut down, one node is silent."""
    spine, tor_a, tor_b = (router_up(name, f"192.0.2.{n}") for n, name in enumerate(("spine", "tor-a", "tor-b"), 1))
    lost = router_down("tor-b", "192.0.2.3", text="Peer De-configured: call +49 30 1234", message="Ask there.")
    cluster.node("n1", state=state_of(tor_a, spine), labels={RACK: "a"})
    cluster.node("n2", state=state_of(lost, spine, health="degraded"), labels={RACK: "b"})
    cluster.node("n3", state=state_of(router_down("tor-b", "192.0.2.3", reason="shutdown"), spine), labels={RACK: "b"})
    cluster.node("n4", state=state_of(tor_b), labels={RACK: "b"}, age=1000, pod=None)
    return cluster


class Text(NamedTuple):
    x: int
    y: int
    said: str
    kind: str


class Page:
    """What a browser makes of it, as far as a test asks."""

    def __init__(self, html):
        self.html = html
        self.tags, self.attributes, self.words = set(), set(), ""
        parser = HTMLParser()
        parser.handle_starttag = parser.handle_startendtag = lambda tag, attributes: (
            self.tags.add(tag),
            self.attributes.update(name for name, _ in attributes),
        )
        parser.handle_data = lambda data: setattr(self, "words", self.words + data)
        parser.feed(html)
        self.svg = ET.fromstring(html[html.rindex("<svg xmlns") : html.rindex("</svg>") + 6])  # noqa: S314  # it is ours

    def groups(self, kind):
        """Of sessions."""
        return [it for it in self.svg.iter(f"{SVG}g") if it.get("class") == f"session {kind}"]

    def texts(self, part=None):
        """With all that was cut off."""
        for it in (self.svg if part is None else part).iter(f"{SVG}text"):
            title = it.find(f"{SVG}title")
            said = it.text if title is None else title.text
            yield Text(int(it.get("x")), int(it.get("y")), said, it.get("class"))

    def boxes(self):
        for it in self.svg.iter(f"{SVG}rect"):
            if it.get("class") == "card":
                yield tuple(int(it.get(key)) for key in ("x", "y", "width", "height"))


def drawn(cluster, *arguments):
    done = cluster("map", "-o", "-", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return Page(done.stdout)


def labels(page, look):
    return [[it.said for it in page.texts(group)] for group in page.groups(look) if list(page.texts(group))]


def test_each_session_is_a_line_that_says_how_it_is_and_what_went_wrong(racks):
    page = drawn(racks)

    up = f"Established {PAST}, 12 in, 3 out"
    assert labels(page, Look.UP) == [[f"✓ tor-a: {up}"], *[[f"✓ spine: {up}"]] * 3]
    error = ["received 6/3 Peer De-configured: call +49 30 1234 (65s", "ago)"]
    assert labels(page, Look.DOWN) == [["✗ tor-b: Active, lost 00:06:40 ago", *error]]
    assert labels(page, Look.MEANT) == [["– tor-b: Active, lost 00:06:40 ago", "shutdown: as its BGPPeer has it"]]
    assert labels(page, Look.UNKNOWN) == [["? tor-b: Established 16m ago"]]


def test_what_is_to_be_mended_is_in_words_below(racks):
    words = drawn(racks).words

    assert "n2: BGPPeer/tor-b: Ask there.\n" in words
    assert "n4: noAgentPod: no agent runs there: none in namespace bgpilot-system. Fix: " in words
    assert SUMMARY in words


def test_racks_are_what_labels_say_and_each_has_its_routers(racks):
    racks.nodes["n1"]["metadata"]["labels"]["example.com/row"] = "7"

    assert [it.said for it in drawn(racks).texts() if it.kind == "rack"] == ["rack a · 1 node", "rack b · 3 nodes"]
    names = [it.said for it in drawn(racks).texts() if it.kind == "name"]
    assert names == ["tor-a", "spine", "n1", "tor-b", "spine", "n2", "n3", "n4"]
    page = drawn(racks, "--rack-label", "example.com/row")
    titles = [it.said for it in page.texts() if it.kind == "rack"]
    assert titles == ["row 7 · 1 node", "Nodes without example.com/row · 3 nodes"]


def test_a_router_says_with_how_many_nodes_it_is_up(racks):
    facts = [it.said for it in drawn(racks).texts() if it.kind == "fact" and it.said.startswith("up with")]

    assert facts == ["up with 1 of 1 nodes", "up with 3 of 3 nodes", "up with 0 of 3 nodes", "up with 3 of 3 nodes"]


def test_a_large_rack_is_drawn_in_parts(cluster):
    for number in range(GROUP_MAX + 1):
        cluster.node(f"n{number}", state=state_of(router_up("tor", "192.0.2.1")))

    titles = [it.said for it in drawn(cluster).texts() if it.kind == "rack"]
    assert titles == ["All nodes · nodes 1 to 12 of 13", "All nodes · nodes 13 to 13 of 13"]


def test_a_router_whose_address_says_nothing_without_its_link_is_one_in_each_rack(cluster):
    for name in ("n1", "n2"):
        cluster.node(name, state=state_of(router_up("tor", "fe80::1%eth0")), labels={RACK: name})

    assert [it.said for it in drawn(cluster).texts() if it.kind == "fact"].count("fe80::1%eth0 · AS 64600") == 2


def test_sessions_that_nodes_miss_between_them_are_drawn_once_and_of_many_the_first(cluster):
    names = [f"n{number}" for number in range(MISSING_MAX + 4)]
    for name in names:
        others = [other for other in names if "n0" in {name, other} and other != name]
        missing = [
            router_down(f"node/{other}", f"10.0.0.{other[1:]}", text="No route to host", code=0) for other in others
        ]
        cluster.node(name, state=state_of(*missing))
    page = drawn(cluster)

    arcs = [it.find(f"{SVG}title").text for it in page.groups("down") if not list(page.texts(it))]
    assert len(arcs) == len(names) - 1
    assert arcs[0] == "n0 – n1: No route to host (65s ago)"
    bad = [it.said for it in page.texts() if it.kind == "fact bad"]
    assert bad[MISSING_MAX] == "✗ … and 3 nodes more"
    assert bad[-1] == "✗ n0: No route to host (65s ago)"


@pytest.mark.parametrize("nodes", [3, 100])
def test_nothing_covers_anything_and_lines_end_where_they_should(cluster, nodes):
    for number in range(nodes):
        rack = number // 20
        routers = [router_up(f"tor-{rack}{it}", f"10.0.{rack}.{it}") for it in range(3)]
        if number % 7 == 0:
            routers[1] = router_down(f"tor-{rack}1", f"10.0.{rack}.1", text="x" * 300)
        cluster.node(f"n{number}", state=state_of(*routers), labels={RACK: f"r{rack}"})
    page = drawn(cluster)

    _, _, width, height = map(int, page.svg.get("viewBox").split())
    boxes = sorted(page.boxes())
    groups = {(number // 20, number % 20 // GROUP_MAX) for number in range(nodes)}
    assert len(boxes) == nodes + 3 * len(groups)
    assert all(x >= 0 and y >= 0 and x + w <= width and y + h <= height for x, y, w, h in boxes)
    assert all(a[0] != b[0] or a[1] + a[3] < b[1] for a, b in pairwise(boxes))
    ends = sorted({it.y for it in page.texts() if it.kind == "label"})
    assert all(after - before >= 14 for before, after in pairwise(ends))
    starts, stops = set(), set()
    for path in page.svg.iter(f"{SVG}path"):
        x, y, end, stop = re.fullmatch(r"M(\d+) (\d+)C.* (\d+)H(\d+)", path.get("d")).groups()
        assert any(bx + w == int(x) and by < int(y) < by + h for bx, by, w, h in boxes)
        assert any(bx == int(stop) and by < int(end) < by + h for bx, by, w, h in boxes)
        starts.add(y)
        stops.add(end)
    assert len(stops) == 3 * nodes


def test_a_line_of_text_has_room(racks):
    """At 7 px a character, which is wide for 12 px."""
    racks.states["n2"]["status"]["peers"][0]["lastError"]["text"] = "路由器管理员关闭了会话" * 20
    for it in drawn(racks).svg.iter(f"{SVG}text"):
        shown = (it[0].tail if len(it) else it.text) or ""
        wide = sum(2 if ord(character) > 0x2E80 else 1 for character in shown)
        assert it.get("class") != "label" or wide <= 58
        assert int(it.get("x")) + (0 if "end" in it.get("class") else 7 * wide) <= WIDTH


def test_what_others_write_is_text_and_nothing_else(cluster):
    peer = router_down(EVIL, "192.0.2.1", text=EVIL, message=EVIL)
    node = router_down(f"node/{EVIL}", "192.0.2.2", text=EVIL, message=EVIL)
    cluster.node("n1", state={**state_of(peer, node, health="no"), "ailments": [{"reason": EVIL}]}, labels={RACK: EVIL})
    usual = Page(cluster("map", "-o", "-").stdout)

    assert usual.tags == {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "h1",
        "details",
        "summary",
        "div",
        "p",
        "ul",
        "li",
    } | {
        "svg",
        "g",
        "rect",
        "path",
        "text",
    }
    assert not [it for it in usual.attributes if it.startswith("on") or it in {"href", "src", "style"}]
    assert usual.words.count(EVIL) >= 8


def test_it_asks_nobody_for_anything(racks):
    html = drawn(racks).html

    assert "default-src 'none'; style-src 'unsafe-inline'" in html
    assert set(re.findall(r"\w+://[^\"' ]*", html)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<script|<link|@import|url\(|\bsrc=|href=", html)


def test_no_colour_stands_alone():
    assert len(set(SIGNS.values())) == len(Look)
    dashes = {look: re.search(rf"\.{look} path {{.*?(stroke-dasharray: [^;]*|}})", STYLE)[1] for look in Look}
    assert len(set(dashes.values())) == len(Look)


def colours(scheme):
    """By name, in one of the two."""
    light, dark = STYLE.split("@media (prefers-color-scheme: dark)")
    return dict(re.findall(r"--(\w+): (#\w+);", light if scheme == "light" else dark))


def luminance(colour):
    """Of WCAG 2.2."""
    digits = colour[1:] if len(colour) == 7 else "".join(it * 2 for it in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (it / 12.92 if it <= 0.04045 else ((it + 0.055) / 1.055) ** 2.4 for it in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("ground", ["ground", "band", "card"])
@pytest.mark.parametrize("ink", ["text", "faint", "up", "down", "meant", "unknown"])
def test_every_ink_can_be_read_on_every_ground(scheme, ground, ink):
    lighter, darker = sorted((luminance(colours(scheme)[it]) for it in (ground, ink)), reverse=True)

    assert (lighter + 0.05) / (darker + 0.05) >= 4.5


def test_the_page_is_written_where_it_is_wanted(racks, tmp_path):
    file = tmp_path / "map.html"

    done = racks("map", "-o", str(file))
    assert done == (
        0,
        f"{file}: {SUMMARY}\n",
        "",
    )
    assert file.read_text() == racks("map", "-o", "-").stdout
    assert racks("map", "-o", str(tmp_path)) == (1, "", f"bgpilot: {tmp_path}: Is a directory\n")


def test_a_cluster_without_nodes_is_a_page_too(cluster):
    assert "0 nodes; 0 sessions with routers" in drawn(cluster).words
