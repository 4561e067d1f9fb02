"""Replacements in what ExaBGP makes of the UPDATEs it receives, where a hostile one would leave a wrong route.

They run inside ExaBGP; `bgp.inside.launcher` puts each in its place and hands it what it replaces. Each is one
function, says what is wrong without it, and has a test in tests/live/test_exabgp_contract_updates.py that fails when
upstream changes (seen with ExaBGP 5.0.15). It refuses to import ExaBGP.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator
from typing import Any

Method = Callable[..., Any]


def leave_to_the_notification(_processes: object, *_what: object) -> None:
    """In place of `Processes.notification`, which is called for a header that is wrong, and then raises TypeError.

    Without it the session ends without NOTIFICATION 1/1 or 1/2, so that nobody knows why, and its routes are kept as of
    a router that restarts (RFC 4724). What it was to say is said when the NOTIFICATION has been sent.
    """


def write_what_is_read(generate_json: Method, known: Collection[int]) -> Method:
    """Around `Attributes._generate_json`: only attributes that somebody reads are written.

    Of the others some become text that is no JSON (a Prefix-SID with an empty service TLV), and with it a whole UPDATE
    is lost: what it replaces or withdraws would stay. They are optional and transitive: anybody far away can send them.
    """

    @functools.wraps(generate_json)
    def _generate_json(self: Any) -> Iterator[str]:
        some = type(self)()
        for code, attribute in self.items():
            if code in known:
                dict.__setitem__(some, code, attribute)
        found: Iterator[str] = generate_json(some)
        return found

    return _generate_json


def keep_the_path(parse: Method, as4: Collection[int]) -> Method:
    """Around `Attributes.parse`: where AS numbers of four bytes are spoken, AS4_PATH is ignored (RFC 6793 4.1).

    Without it AS4_PATH, which routers far away pass on as they got it, takes the place of AS_PATH: a loop would not be
    seen, and a long path would be a short one.
    """

    @functools.wraps(parse)
    def _parse(self: Any, data: bytes, direction: object, negotiated: Any) -> Any:
        attributes = parse(self, data, direction, negotiated)
        if negotiated is not None and negotiated.asn4:
            for code in as4:
                attributes.pop(code, None)
        return attributes

    return _parse


def refuse_the_unreadable(unpack: Method, withdraw: int, notify: Method) -> Method:
    """Around `Update.unpack_message`: one that is wrong, and whose prefixes could not be found, ends the session.

    RFC 7606 5.2 and 3 j. ExaBGP stops reading at an attribute that is longer than what is left; a MP_REACH_NLRI behind
    it is then treated as a withdrawal of nothing, and the routes that it was about stay as they were.
    """

    @functools.wraps(unpack)
    def _unpack_message(cls: Any, data: bytes, direction: object, negotiated: Any) -> Any:
        message = unpack(cls, data, direction, negotiated)
        if withdraw in message.attributes and not message.nlris:
            raise notify(3, 1, "an attribute is malformed and there are no prefixes to withdraw for it")
        return message

    return _unpack_message


def read_in_one_go(unpack: Method, size: int, read: Method) -> Method:
    """In place of `unpack` of an attribute that is a list of communities, `size` bytes each: sorted once, at the end.

    Without it they are sorted anew for each, and large ones looked for among all before: ExaBGP is deaf to every peer
    for half a minute after one UPDATE with 10,000 (RFC 8654), and for a tenth of a second after one of 4,096 bytes.
    """

    @functools.wraps(unpack)
    def _unpack(data: bytes, direction: object, negotiated: object) -> Any:
        whole = len(data) - len(data) % size
        found = unpack(data[whole:], direction, negotiated)  # raises for a part of one
        each = sorted({data[at : at + size] for at in range(0, whole, size)})
        found.communities = [read(one, direction, negotiated) for one in each]
        return found

    return _unpack
