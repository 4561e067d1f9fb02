"""Texts come out of the splitters as they went in, however the network cuts them, in no more memory than said."""

import json
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cluster.split import ItemSplitter, LineSplitter, TooLong


def cut(content: bytes, sizes: list[int]) -> list[bytes]:
    """In pieces of these sizes, over and over."""
    chunks, start = [], 0
    while start < len(content):
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(content[start : start + size])
        start += size
    return chunks


SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=5)


@given(lines=st.lists(st.binary(max_size=60).filter(lambda line: b"\n" not in line)), sizes=SIZES)
def test_lines_come_out_as_they_went_in(lines: list[bytes], sizes: list[int]) -> None:
    splitter = LineSplitter()
    content = b"".join(line + b"\n" for line in lines)

    found = [line for chunk in cut(content, sizes) for line in splitter.feed(chunk)]

    assert found == [line for line in lines if line]
    assert not splitter.within


def test_the_stream_is_within_a_line_until_its_end_has_come() -> None:
    splitter = LineSplitter()

    assert list(splitter.feed(b"one\ntw")) == [b"one"]
    assert splitter.within
    assert list(splitter.feed(b"o\n")) == [b"two"]
    assert not splitter.within


@pytest.mark.parametrize("chunks", [[b"12345678\n"], [b"1234", b"5678"], [b"1234", b"5678\n"], [b"ok\n12345678\n"]])
def test_a_line_over_the_bound_is_refused(chunks: list[bytes]) -> None:
    splitter = LineSplitter(most=7)

    with pytest.raises(TooLong):
        list(chain.from_iterable(map(splitter.feed, chunks)))


ITEM = st.fixed_dictionaries(
    {"metadata": st.fixed_dictionaries({"name": st.text(max_size=5)})},
    optional={
        "spec": st.sampled_from(
            [
                {"text": '},{"metadata":'},
                {"templates": [{"metadata": {"name": "inner"}}, {"metadata": {"name": "inner"}}]},
                {"text": '"items":[', "more": '}]}{[\\"'},
            ]
        )
    },
).map(lambda item: dict(sorted(item.items())))  # as the API server has it: every item begins with the same member


@given(items=st.lists(ITEM, max_size=6), sizes=SIZES, meta_first=st.booleans(), spaced=st.booleans())
def test_items_come_out_as_they_went_in(
    items: list[dict[str, Any]], sizes: list[int], meta_first: bool, spaced: bool
) -> None:
    meta = {"metadata": {"resourceVersion": "7"}}
    body = {"kind": "List", **meta, "items": items} if meta_first else {"items": items, "kind": "List", **meta}
    content = json.dumps(body, separators=None if spaced else (",", ":"), ensure_ascii=False).encode()
    splitter = ItemSplitter()

    found = [json.loads(item) for chunk in cut(content, sizes) for item in splitter.feed(chunk)]
    rest = json.loads(splitter.rest())

    assert found + rest.pop("items") == items
    assert rest == {"kind": "List", **meta}
    assert len(found) == max(0, len(items) - 1)


@given(items=st.lists(ITEM, min_size=1, max_size=4), sizes=SIZES, missing=st.integers(1, 30))
def test_a_list_that_was_cut_off_leaves_broken_json(
    items: list[dict[str, Any]], sizes: list[int], missing: int
) -> None:
    splitter = ItemSplitter()
    content = json.dumps({"items": items, "metadata": {"resourceVersion": "7"}}, ensure_ascii=False).encode()[:-missing]
    for chunk in cut(content, sizes):
        list(splitter.feed(chunk))

    with pytest.raises(ValueError, match=r".+"):
        json.loads(splitter.rest())


@pytest.mark.parametrize("items", ["null", "[]"])
def test_a_list_without_items_is_a_list(items: str) -> None:
    splitter = ItemSplitter()
    body = f'{{"items":{items},"metadata":{{"resourceVersion":"7"}}}}'

    assert list(splitter.feed(body.encode())) == []
    assert splitter.rest() == body.encode()


def test_a_list_of_any_length_passes_through_the_memory_of_one_item() -> None:
    splitter = ItemSplitter(most=2_000)
    item = json.dumps({"metadata": {"name": "x" * 1_000}}, separators=(",", ":")).encode()
    found = list(splitter.feed(b'{"items":[' + item))
    for _ in range(500):
        found += splitter.feed(b"," + item)

    assert found == [item] * 500


def test_an_item_over_the_bound_is_refused() -> None:
    splitter = ItemSplitter(most=100)

    with pytest.raises(TooLong):
        list(splitter.feed(b'{"items":[{"metadata":{"name":"' + b"x" * 200))
