"""The two programs that answer in a lab, run as a script inside a namespace: HTTP with one fixed text, and UDP echo.

Raw sockets and threads, standard library only (`python -I -S`): a pod has to be there in milliseconds. It serves no
files and knows no paths.
"""

import contextlib
import socket
import sys
import threading
from collections.abc import Sequence

REQUEST_BYTES = 65536
LISTENING = "listening"
SO_RCVBUFFORCE = 33
"""asm-generic/socket.h; else a server that does not run for a second loses what comes for it meanwhile."""
BUFFER_BYTES = 8 << 20


def main(words: Sequence[str]) -> None:
    match words:
        case ["http", port, text]:
            http(int(port), text)
        case ["echo", port]:
            echo(int(port))
        case _:
            raise SystemExit(f"unknown words {words}")


def http(port: int, text: str) -> None:
    server = _bound(socket.SOCK_STREAM, port)
    server.listen(128)
    print(LISTENING, flush=True)
    while True:
        connection, _ = server.accept()
        threading.Thread(target=_answer, args=(connection, text), daemon=True).start()


def echo(port: int) -> None:
    server = _bound(socket.SOCK_DGRAM, port)
    server.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    print(LISTENING, flush=True)
    while True:
        data, peer = server.recvfrom(2048)
        with contextlib.suppress(OSError):  # no route back just now
            server.sendto(data, peer)


def _answer(connection: socket.socket, text: str) -> None:
    with contextlib.suppress(OSError), connection:
        request = b""
        while b"\r\n\r\n" not in request and len(request) < REQUEST_BYTES:
            more = connection.recv(REQUEST_BYTES)
            if not more:
                return
            request += more
        body = f"{text}\n".encode()
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        connection.sendall(head.encode() + body)


def _bound(kind: socket.SocketKind, port: int) -> socket.socket:
    """On all addresses of both families where IPv6 is on, else of IPv4."""
    with contextlib.suppress(OSError):
        both = socket.socket(socket.AF_INET6, kind)
        both.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        both.bind(("::", port))
        return both
    one = socket.socket(socket.AF_INET, kind)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind(("0.0.0.0", port))
    return one


if __name__ == "__main__":
    main(sys.argv[1:])
