"""The probe's program, run as a script inside a namespace: a numbered UDP packet every 10 ms until SIGTERM.

It then waits for answers under way, as long as some come, and prints one line of JSON. Loss is counted by number, and
gaps are measured between the times of *sending*: a sender that the machine did not let run for a while sends nothing
and so loses nothing. Standard library only (`python -I -S`).
"""

import contextlib
import json
import select
import signal
import socket
import sys
import time
from types import FrameType

INTERVAL_SECONDS = 0.01
LATE_SECONDS = 1.0
"""When nothing has come for so long nothing will. Who echoes may have had to wait for a processor."""
SO_RCVBUFFORCE = 33
"""asm-generic/socket.h; else a program that does not run for a second loses what comes for it meanwhile."""
BUFFER_BYTES = 8 << 20
NUMBER_BYTES = 8
ANSWERED = "answered"


class Sender:
    """Two lists by packet number: when sent, and whether answered."""

    def __init__(self, target: tuple[str, int], flows: int) -> None:
        self.target = target
        family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        # Not connected: the kernel then reports no ICMP error that would take the place of a packet.
        self.sockets = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(flows)]
        self.poll = select.poll()
        for each in self.sockets:
            each.setblocking(False)
            each.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
            self.poll.register(each, select.POLLIN)
        self.by_fd = {each.fileno(): each for each in self.sockets}
        self.sent_at: list[float] = []
        self.answered: list[bool] = []
        self.answered_at = 0.0
        """The last of them."""
        self.stopping = False

    def run(self) -> None:
        next_at = time.monotonic()
        told = False
        while not self.stopping:
            self._send()
            next_at = max(next_at + INTERVAL_SECONDS, time.monotonic())
            self._receive_until(next_at)
            if not told and True in self.answered:
                print(ANSWERED, flush=True)
                told = True
        self.answered_at = time.monotonic()
        while not all(self.answered) and time.monotonic() < self.answered_at + LATE_SECONDS:
            self._receive_until(time.monotonic() + INTERVAL_SECONDS)

    def result(self) -> dict[str, float]:
        """The count begins with the first packet that was answered."""
        start = self.answered.index(True) if True in self.answered else 0
        self.sent_at, self.answered = self.sent_at[start:], self.answered[start:]
        longest, since = 0.0, None
        for at, answered in zip(self.sent_at, self.answered, strict=True):
            if not answered:
                since = at if since is None else since
            elif since is not None:
                longest, since = max(longest, at - since), None
        if since is not None:
            longest = max(longest, self.sent_at[-1] + INTERVAL_SECONDS - since)
        lost = self.answered.count(False)
        return {"sent": len(self.answered), "lost": lost, "longest_gap_ms": round(longest * 1000, 1)}

    def _send(self) -> None:
        number = len(self.sent_at)
        self.sent_at.append(time.monotonic())
        self.answered.append(False)
        with contextlib.suppress(OSError):  # no route: sent in vain
            self.sockets[number % len(self.sockets)].sendto(number.to_bytes(NUMBER_BYTES), self.target)

    def _receive_until(self, until: float) -> None:
        while (left := until - time.monotonic()) > 0:
            for fd, _ in self.poll.poll(left * 1000):
                with contextlib.suppress(OSError):
                    self.answered[int.from_bytes(self.by_fd[fd].recv(NUMBER_BYTES))] = True
                    self.answered_at = time.monotonic()


def main(target: str, port: str, flows: str) -> None:
    sender = Sender((target, int(port)), int(flows))

    def stop(_signal: int, _frame: FrameType | None) -> None:
        sender.stopping = True

    signal.signal(signal.SIGTERM, stop)
    sender.run()
    print(json.dumps(sender.result()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
