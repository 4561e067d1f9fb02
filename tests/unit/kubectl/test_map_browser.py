"""The map as a browser shows it, in light and in dark: nothing is cut off or covered, all is legible.

Chromium measures a copy of the page that has a script of the test's in it.
"""

from __future__ import annotations

import json
import shutil
from html import unescape

import pytest

from tests.lab import procs
from tests.unit.kubectl.fakecluster import router_down, router_up, state_of

pytestmark = pytest.mark.live

RACK = "topology.kubernetes.io/rack"
LIGHT, DARK = 1, 0
"""Blink's PreferredColorScheme."""
CONTRAST_LEAST = 4.5
"""WCAG 2.2, 1.4.3."""
MEASURE = """
<script>
const channels = colour => colour.match(/[0-9.]+/g).slice(0, 3).map(Number);
const luminance = colour => channels(colour).map(it => it / 255)
  .map(it => it <= 0.03928 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4)
  .reduce((sum, it, at) => sum + it * [0.2126, 0.7152, 0.0722][at], 0);
const contrast = (a, b) => { const [high, low] = [luminance(a), luminance(b)].sort().reverse();
  return (high + 0.05) / (low + 0.05); };
const svg = document.querySelector(".map > svg"), frame = svg.getBoundingClientRect();
const texts = [...svg.querySelectorAll("text")].map(it => ({at: it.getBoundingClientRect(), said: it.textContent, it}));
const over = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
  Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3;
const inside = (a, b) => a.left >= b.left && a.right <= b.right && a.top >= b.top && a.bottom <= b.bottom;
const cards = [...svg.querySelectorAll("rect.card")].map(it => it.getBoundingClientRect());
const ground = getComputedStyle(svg.querySelector(".band")).fill;
const found = {
  dark: matchMedia("(prefers-color-scheme: dark)").matches,
  ground: getComputedStyle(document.body).backgroundColor,
  texts: texts.length,
  empty: texts.filter(one => !one.at.width).map(one => one.said),
  overlaps: texts.flatMap((a, n) => texts.slice(n + 1).filter(b => over(a.at, b.at)).map(b => [a.said, b.said])),
  outside: texts.filter(one => !inside(one.at, frame)).map(one => one.said),
  across: texts.filter(one => cards.some(card => over(one.at, card) && !inside(one.at, card))).map(one => one.said),
  faint: texts.map(one => contrast(getComputedStyle(one.it).fill, ground)).reduce((a, b) => Math.min(a, b)),
  lines: [...new Set([...svg.querySelectorAll(".session path")].map(it => getComputedStyle(it).stroke))],
  fetched: performance.getEntriesByType("resource").map(it => it.name),
};
document.body.textContent = "FOUND" + JSON.stringify(found) + "FOUND";
</script>
</body>"""


@pytest.fixture
def page(cluster):
    """Two racks: sessions of each kind, a long error, names that are too long, and a missing session between nodes."""
    spine = router_up("spine-with-a-name-that-nobody-has-room-for", "2001:db8:ffff:ffff:ffff:ffff:ffff:fffe")
    lost = router_down(
        "tor-b", "192.0.2.3", text="Peer De-configured: " + "call +49 30 1234 " * 20, message="Ask there."
    )
    shut = router_down("tor-b", "192.0.2.3", reason="shutdown")
    cluster.node("n1", state=state_of(router_up("tor-a", "192.0.2.2"), spine), labels={RACK: "a"})
    cluster.node("n2", state=state_of(lost, spine, health="degraded"), labels={RACK: "b"})
    cluster.node("a-node.with.a.long.domain.example.com", state=state_of(shut, spine), labels={RACK: "b"})
    cluster.node("n4", state=state_of(router_up("tor-b", "192.0.2.3")), labels={RACK: "b"}, age=1000, pod=None)
    done = cluster("map", "-o", "-")
    assert done.returncode == 0
    return done.stdout


def shown(page, folder, scheme, width):
    measured = folder / "measured.html"
    policy = page.index("<meta http-equiv=")
    without_policy = page[:policy] + page[page.index("\n", policy) :]
    measured.write_text(without_policy.replace("</body>", MEASURE))
    chromium = shutil.which("chromium")
    assert chromium, "apt-get install chromium"
    told = procs.run(
        [
            chromium,
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
            *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
            f"--user-data-dir={folder / 'profile'}",
            f"--window-size={width},900",
            f"--blink-settings=preferredColorScheme={scheme}",
            "--dump-dom",
            measured.as_uri(),
        ]
    ).stdout
    return json.loads(unescape(told.split("FOUND")[1]))


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_everything_is_in_its_place_and_legible(page, tmp_path, scheme):
    found = shown(page, tmp_path, scheme, width=1400)

    assert found["dark"] == (scheme == DARK)
    assert found["texts"] > 30
    assert (found["empty"], found["overlaps"], found["outside"], found["across"]) == ([], [], [], [])
    assert found["faint"] >= CONTRAST_LEAST
    assert len(found["lines"]) == 4, "each look of a session has a colour of its own"
    assert found["fetched"] == []


def test_a_narrow_window_cuts_nothing_off(page, tmp_path):
    found = shown(page, tmp_path, LIGHT, width=500)

    assert (found["empty"], found["overlaps"], found["outside"], found["across"]) == ([], [], [], [])
