"""The service that lends GPUs on a ZeroGPU Space, on this computer: it answers as it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

# What the tests' stand-in for the GPU of a forked process does, by the name of the GPU that it was
# lent (see tests.support.zero_gpu); by any other name it is the package's own code, and finds none.
CPU_IN_ITS_PLACE, ENDS, FAILS = "CPU", "ENDS", "FAILS"
NO_DEVICE = "GPU-0"


@dataclass(frozen=True)
class Answer:
    """An answer to the request for a GPU.

    Attributes:
        status: Of HTTP.
        body: Text.
        headers: More of them; a type of content is among them.
    """

    status: int = 200
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)


def lend(gpu: str = CPU_IN_ITS_PLACE, idle: bool = False) -> Answer:
    """A GPU; ``idle`` where the process that had it last may be used again."""
    return Answer(body=_lent(gpu, idle), headers={"Content-Type": "application/json"})


def refuse(status: int) -> Answer:
    """An error of HTTP."""
    return Answer(status)


def over_quota(left: int, wait: str | float) -> Answer:
    """Too little time left to lend it.

    Args:
        left: Seconds.
        wait: Until there is more: seconds, or as ISO 8601 says it.
    """
    body = json.dumps({"left": left, "wait": wait})
    return Answer(429, body, {"Content-Type": "application/json"})


def queue(*events: str, gpu: str = CPU_IN_ITS_PLACE) -> Answer:
    """A place in the queue, and what becomes of it: ``ping``, ``failed`` or ``succeeded``."""
    data = {"succeeded": f"\ndata: {_lent(gpu, False)}"}
    body = "".join(f"event: {event}{data.get(event, '')}\n\n" for event in events)
    return Answer(body=body, headers={"Content-Type": "text/event-stream"})


def _lent(gpu: str, idle: bool) -> str:
    lent = {"idle": idle, "nvidiaIndex": 0, "nvidiaUUID": gpu, "allowToken": "token"}
    return json.dumps(lent)


class LendingService:
    """The service's state, and its address while it runs.

    Attributes:
        answer: To every request for a GPU.
        requests: Path and query of each request so far.
        url: Where it listens.
    """

    def __init__(self) -> None:
        self.answer = lend()
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.url = ""

    def asked(self, path: str) -> list[dict[str, str]]:
        """The queries of the requests for a path."""
        return [query for asked, query in self.requests if asked == path]


@contextmanager
def running_service() -> Iterator[LendingService]:
    """Serves on a free port of the loopback interface."""
    service = LendingService()
    handler = type("Handler", (_Handler,), {"service": service})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    service.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    service: LendingService
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.service.requests.append((parts.path, query))
        answer = self.service.answer if parts.path == "/schedule" else Answer()
        body = answer.body.encode()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if "event-stream" in answer.headers.get("Content-Type", ""):
            # As they come, an event a chunk.
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for event in body.split(b"\n\n")[:-1]:
                self.wfile.write(b"%x\r\n%s\n\n\r\n" % (len(event) + 2, event))
            self.wfile.write(b"0\r\n\r\n")
            return
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass
