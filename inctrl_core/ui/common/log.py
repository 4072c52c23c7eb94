"""The program's log, whose lines stay short, few and its own, whatever a visitor sent."""

from __future__ import annotations

import logging
import time
from types import TracebackType

FORMAT = "%(levelname)s %(name)s: %(message)s"
MAX_CHARACTERS = 500
# Of a stack trace: the beginning says which request, the end what happened.
_FIRST_LINES, _LAST_LINES = 5, 35
WINDOW_SECONDS = 60.0
MOST = 20  # Of one kind within that time.


class BoundedFormatter(logging.Formatter):
    r"""Cuts messages and traces, and writes as an escape what would begin a line or colour it.

    >>> BoundedFormatter("%(message)s").format(logging.makeLogRecord({"msg": "a\nERROR b"}))
    'a\\nERROR b'
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802, of logging.
        """The message as one line."""
        return one_line(super().formatMessage(record))

    def formatException(  # noqa: N802, of logging.
        self, error: tuple[type[BaseException], BaseException, TracebackType | None]
    ) -> str:
        """The trace, each of its lines marked, as its text may hold something like a message."""
        lines = super().formatException(error).splitlines()
        if len(lines) > _FIRST_LINES + _LAST_LINES:
            left_out = len(lines) - _FIRST_LINES - _LAST_LINES
            lines = [*lines[:_FIRST_LINES], f"({left_out} more lines)", *lines[-_LAST_LINES:]]
        return "\n".join("  | " + one_line(line) for line in lines)


class RateLimit(logging.Filter):
    """Passes so many messages of one kind a minute, and then says how many were left out."""

    def __init__(self) -> None:
        super().__init__()
        self._windows: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the message is one of the first of its kind in this minute."""
        # The place that logs says the kind: the text may hold what a visitor sent.
        kind, now = (record.pathname, record.lineno), time.monotonic()
        begun, count = self._windows.get(kind, (now, 0))
        if now - begun > WINDOW_SECONDS:
            if count > MOST:
                record.msg = f"{record.getMessage()} ({count - MOST} more like it were left out)"
                record.args = ()
            begun, count = now, 0
        self._windows[kind] = begun, count + 1
        return count < MOST


def one_line(text: str) -> str:
    """At most ``MAX_CHARACTERS`` of a text, on one line."""
    cut = text[:MAX_CHARACTERS] + (" …" if len(text) > MAX_CHARACTERS else "")
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in cut
    )


def start_log() -> None:
    """Logs to standard error, within bounds."""
    logging.basicConfig(level=logging.INFO)
    # It writes every address that it asks, and with it what stands for a visitor of a Space.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(BoundedFormatter(FORMAT))
        handler.addFilter(RateLimit())
