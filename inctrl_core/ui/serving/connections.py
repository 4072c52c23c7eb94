"""Connections of the server: how many, and for how long they may keep it waiting.

uvicorn waits for ever for a request that was begun, and for a reader who does not read. Each such
connection takes an open file; once none is left, the page is closed to everyone.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 20.0  # From the connection, or the first byte, to the end of the headers.
STALL_SECONDS = 30.0  # A body that hardly moves, or an answer that nobody reads.
CHECKS = 3  # How often a body is looked at within that time.
SLOWEST = 1000  # Bytes a second.
MAX_CONNECTIONS = 1000

_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n"
    b"There are too many connections; try again later."
)


def connection_limit() -> int:
    """How many connections leave files for everything else."""
    with suppress(ImportError):  # Windows has no such limit.
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY:
            return max(8, min(MAX_CONNECTIONS, soft // 2))
    return MAX_CONNECTIONS


class TimedProtocol(H11Protocol):
    """A connection that must send what it began and read what it asked for.

    Where there are too many, the one that has waited longest without a request makes room.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Makes room for the connection, and waits for its first request."""
        super().connection_made(transport)
        self._timer: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._state: object = None
        self._last = self.loop.time()
        self._arrived = self._slow = 0
        if len(self.connections) > connection_limit():
            self._make_room()
        self._follow()

    def data_received(self, data: bytes) -> None:
        """Takes what has arrived, and looks at what is still to come."""
        self._arrived += len(data)
        self._last = self.loop.time()
        super().data_received(data)
        self._follow()

    def on_response_complete(self) -> None:
        """Goes on with what was sent before the answer to the last request was."""
        super().on_response_complete()
        self._follow()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection."""
        for timer in (self._timer, self._unread):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Waits until the reader goes on, though not for ever."""
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Goes on writing."""
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        super().resume_writing()

    def _follow(self) -> None:
        """Sets the timer for what the other end has to send now; none where it is whole."""
        state = self.conn.their_state
        if state is self._state:
            return
        self._state = state
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if state is h11.IDLE:
            self._timer = self.loop.call_later(HEAD_SECONDS, self._end_of_patience)
        elif state is h11.SEND_BODY:
            self._arrived = self._slow = 0
            self._timer = self.loop.call_later(STALL_SECONDS / CHECKS, self._check_body)

    def _end_of_patience(self) -> None:
        # Between two requests uvicorn has a time limit of its own.
        if self.conn.their_state is h11.IDLE:
            self.transport.close()

    def _check_body(self) -> None:
        """Ends a connection whose body has hardly moved in all of the last checks."""
        if self.conn.their_state is not h11.SEND_BODY:
            return
        enough = self._arrived >= SLOWEST * STALL_SECONDS / CHECKS
        self._slow = 0 if enough or self.flow.read_paused else self._slow + 1
        self._arrived = 0
        if self._slow >= CHECKS:
            self.transport.close()
        else:
            self._timer = self.loop.call_later(STALL_SECONDS / CHECKS, self._check_body)

    def _make_room(self) -> None:
        others = [other for other in self.connections if other is not self]
        idle = [other for other in others if other.conn.their_state is h11.IDLE]
        if not idle:
            before = self.loop.time() - STALL_SECONDS / CHECKS
            bodies = (other for other in others if other.conn.their_state is h11.SEND_BODY)
            idle = [other for other in bodies if other._last < before]
        if idle:
            min(idle, key=lambda other: other._last).transport.abort()
        else:
            self.transport.write(_BUSY)
            self.transport.close()
