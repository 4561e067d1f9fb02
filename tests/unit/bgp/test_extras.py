"""What ExaBGP's configuration has no words for: each side of the language reads what the other writes."""

from hypothesis import given
from hypothesis import strategies as st

from bgp.inside.extras import (
    COMMUNICATION_MAX_BYTES,
    Extras,
    Farewell,
    description,
    farewell_line,
    read_description,
    read_farewells,
)

SECONDS = st.none() | st.integers(min_value=0, max_value=0xFFFF)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(st.builds(Extras, SECONDS, SECONDS, st.booleans(), st.booleans()))
def test_settings_come_back_as_they_were_written(extras: Extras) -> None:
    assert read_description(description(extras)) == extras


@given(st.text())
def test_any_other_description_can_be_read(text: str) -> None:
    read_description(text)


@given(st.dictionaries(st.ip_addresses().map(str), st.builds(Farewell, st.integers(1, 9), TEXTS), max_size=5))
def test_farewells_come_back_as_they_were_written(farewells: dict[str, Farewell]) -> None:
    lines = [farewell_line(address, farewell) for address, farewell in farewells.items()]
    text = "\n\n".join(["neighbor 192.0.2.1 {", *lines, "}"])

    assert all(line.isascii() and line.isprintable() for line in lines)
    assert read_farewells(text) == farewells


@given(st.text(max_size=400))
def test_no_text_makes_the_notification_too_long_or_ends_within_a_character(text: str) -> None:
    (read,) = read_farewells(farewell_line("192.0.2.1", Farewell(2, text))).values()
    told = read.data[1:]

    assert len(told) <= COMMUNICATION_MAX_BYTES
    assert told == Farewell(2, text).data[1:]
    assert text.encode("utf-8", "replace").decode().startswith(told.decode())
    assert not text or read.data[0] == len(told)


def test_only_a_shutdown_has_a_text() -> None:
    assert Farewell(1, "text").data == b""
    assert Farewell(3, "text").data == b""
    assert Farewell(2, "").data == b""
