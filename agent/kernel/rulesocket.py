"""Reads and writes the rules of `agent.kernel.rules`: the kernel's side of the discards for forwarded packets.

It decides nothing: which rules there must be, and when, is `agent.kernel.forwarded`'s.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Iterable
from itertools import islice
from typing import Final

from agent.kernel.heard import decode_error
from agent.kernel.netlink import (
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
    MalformedError,
    Message,
    messages,
)
from agent.kernel.nlsocket import RECEIVE_BYTES, open_netlink
from agent.kernel.rules import (
    RTM_NEWRULE,
    HeardRule,
    Rule,
    add_request,
    decode_rule,
    delete_heard_request,
    delete_request,
    rules_request,
)
from agent.kernel.table import DumpFailedError, KernelError
from agent.model import Problem

ANSWER_SECONDS: Final = 5.0
DUMP_ATTEMPTS: Final = 5
DUMP_PARTS_MAX: Final = 1_000
REPORTED_MAX: Final = 50


class RuleSocket:
    """The rules of one protocol number in the network namespace that the calling thread is in at `open`."""

    def __init__(self, *, protocol: int) -> None:
        self._protocol = protocol
        self._seq = 0

    def open(self) -> int:
        """The port id by which its writes are known. Raises OSError."""
        self._writer = open_netlink()
        port: int = self._writer.getsockname()[0]
        return port

    def close(self) -> None:
        self._writer.close()

    async def read(self) -> tuple[frozenset[Rule], tuple[HeardRule, ...]]:
        """Ours, and those with our number that we would never write. Raises DumpFailedError."""
        heard = [rule for version in (4, 6) for rule in await self._dump(version) if rule.protocol == self._protocol]
        odd = tuple(one for one in heard if one.rule is None)
        return frozenset(one.rule for one in heard if one.rule is not None), odd

    def problems(self, odd: Iterable[HeardRule]) -> tuple[Problem, ...]:
        return tuple(map(self._problem, islice(odd, REPORTED_MAX)))

    async def add(self, rule: Rule) -> KernelError | None:
        """One that is there already is as good as added: the kernel tells rules of different protocols apart."""
        return await self._ask(add_request(rule, self._next(), protocol=self._protocol), rule, done=errno.EEXIST)

    async def delete(self, rule: Rule) -> KernelError | None:
        return await self._ask(delete_request(rule, self._next(), protocol=self._protocol), rule, done=errno.ENOENT)

    async def delete_heard(self, heard: HeardRule) -> KernelError | None:
        return await self._ask(delete_heard_request(heard, self._next()), _name(heard), done=errno.ENOENT)

    def _next(self) -> int:
        self._seq = self._seq % 0x7FFF_FFFF + 1
        return self._seq

    async def _ask(self, request: bytes, rule: object, *, done: int) -> KernelError | None:
        try:
            self._writer.send(request)
            while True:
                for message in messages(await _receive(self._writer)):
                    if message.type == NLMSG_ERROR and message.seq == self._seq:
                        number, text = decode_error(message)
                        if number in (0, done):
                            return None
                        return KernelError(number, f"{rule}: {text or os.strerror(number)}")
        except TimeoutError:
            return KernelError(errno.ETIMEDOUT, f"{rule}: the kernel did not answer within {ANSWER_SECONDS:g} s")
        except OSError as error:
            return KernelError(error.errno or errno.EIO, f"{rule}: {error.strerror or error}")

    async def _dump(self, version: int) -> list[HeardRule]:
        for _ in range(DUMP_ATTEMPTS):
            try:
                heard = await self._dump_once(version)
            except (OSError, MalformedError) as error:
                raise DumpFailedError(f"reading the IPv{version} rules: {error}") from error
            if heard is not None:
                return heard
        raise DumpFailedError(f"reading the IPv{version} rules: changed by others each of {DUMP_ATTEMPTS} times")

    @staticmethod
    async def _dump_once(version: int) -> list[HeardRule] | None:
        """None: interrupted by a change."""
        heard: list[HeardRule] = []
        interrupted = False
        with open_netlink() as sock:
            sock.send(rules_request(version, 1))
            for _ in range(DUMP_PARTS_MAX):
                for message in messages(await _receive(sock)):
                    interrupted = interrupted or bool(message.flags & NLM_F_DUMP_INTR)
                    if message.type in (NLMSG_DONE, NLMSG_ERROR):
                        _check_end(message)
                        return None if interrupted else heard
                    if message.type == RTM_NEWRULE:
                        heard.append(decode_rule(message.body))
        raise OSError(errno.E2BIG, f"more than {DUMP_PARTS_MAX} parts")

    def _problem(self, heard: HeardRule) -> Problem:
        return Problem(
            reason="foreignShapedRule",
            subject=f"Rule {heard.preference}",
            message=f"carries our protocol number {self._protocol}, but is none that we would write: left alone"
            + (" until we want one there" if heard.in_place_of_ours else ""),
            fix=f"Remove it (ip rule del pref {heard.preference} protocol {self._protocol}) or give one of the two "
            "programs another protocol number.",
        )


def _name(heard: HeardRule) -> str:
    return f"IPv{heard.version} rule {heard.preference} that is not ours"


def _check_end(message: Message) -> None:
    number, text = decode_error(message)
    if number not in (0, errno.EAFNOSUPPORT):  # a kernel without IPv6 has no rules for it
        raise OSError(number, text or os.strerror(number))


async def _receive(sock: socket.socket) -> bytes:
    try:
        return sock.recv(RECEIVE_BYTES)
    except BlockingIOError:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await asyncio.get_running_loop().sock_recv(sock, RECEIVE_BYTES)
