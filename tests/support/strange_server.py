"""A server on this machine that answers what no service would, and counts what is taken of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["Asked", "Made", "StrangeServer", "api_answer", "strange_server"]


@dataclass
class Asked:
    """A request.

    :param method: ``GET``, ``HEAD`` or ``POST``.
    :param path: with its query.
    :param headers: names in lower case.
    :param body: what it carries.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        """The body as JSON."""
        found: dict[str, object] = json.loads(self.body)
        return found


@dataclass
class Made:
    """An answer.

    :param pieces: what is sent, piece by piece, as long as somebody takes it.
    :param status: HTTP status.
    :param headers: further headers; without Content-Length the answer ends with the connection.
    """

    pieces: Iterable[bytes]
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class StrangeServer:
    """What a running server tells.

    :param url: its address.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        #: All requests so far.
        self.asked: list[Asked] = []
        #: Bytes of answers that were sent, without their heads.
        self.sent = 0


def api_answer(**members: object) -> Made:
    """An answer of API 3.0."""
    body = json.dumps({"Response": {"RequestId": "r-1", **members}}).encode()
    return Made([body], headers={"Content-Type": "application/json", "Content-Length": str(len(body))})


@contextmanager
def strange_server(answer: Callable[[Asked], Made]) -> Iterator[StrangeServer]:
    """Run a server whose answers a test makes up."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, self.path, headers, body)
            told.asked.append(asked)
            made = answer(asked)
            self.send_response(made.status)
            for name, value in made.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.close_connection = True
            if self.command == "HEAD":
                return
            try:
                for piece in made.pieces:
                    self.wfile.write(piece)
                    told.sent += len(piece)
            except OSError:
                return  # nobody takes any more

        do_HEAD = do_POST = do_GET

        def log_message(self, *_: object) -> None:
            return None

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    told = StrangeServer(f"http://127.0.0.1:{running.server_address[1]}")
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield told
    finally:
        running.shutdown()
        # Not server_close: it would wait for answers that never end.
        running.socket.close()
        thread.join()
