"""Who may join the queue, and in which order: nobody's requests keep everyone else out.

Gradio counts all events that wait, whoever sent them and whether anybody waits for the result.
Here each session and each address has its bound, analyses have a share of the queue that leaves
scoring its own, and what nobody listens for gives way. Images at addresses are fetched before
their event takes a place.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

import gradio as gr
from fastapi import Request
from gradio.block_function import BlockFunction
from gradio.data_classes import PredictBodyInternal
from gradio.queueing import Event
from gradio.server_messages import ProcessCompletedMessage
from gradio.utils import error_payload
from starlette.types import ASGIApp, Receive, Scope, Send

from ...errors import InctrlError
from ..common.form import ANALYSIS_QUEUE
from .addresses import is_public

# Of the 64 events that may wait; the others are for scoring and for the page itself.
MAX_ANALYSES = 16
MAX_OF_SESSION, MAX_ANALYSES_OF_SESSION = 16, 8
# Of a public address: behind a private one, as a proxy's or a Space's, everybody may be.
MAX_OF_ADDRESS, MAX_ANALYSES_OF_ADDRESS = 32, 8
# Requests whose images are being fetched; each may have up to 17 connections.
MAX_FETCHING, MAX_FETCHING_OF_SESSION = 16, 4
# A program sends its request, and then asks for the answer; from then on it is expected to listen.
UNREAD_SECONDS = 5
# What was never read in this time is dropped.
KEPT_SECONDS = 600
# Gradio keeps the names of thousands.
_MAX_SESSION_NAME = 100

_ODD_SESSION = "The name of the session is too long; use at most 100 characters."
_ANALYSES_FULL = "The queue for analyses is full; try again in a minute."
_FETCHING_FULL = "Too many images are being fetched at once; try again in half a minute."
_UNREAD = "Nobody waited for this result while others did for theirs; ask again, and listen."

Fetch = Callable[[Any], Awaitable[None]]
Outcome = tuple[bool, Any, str]


class Admission:
    """Stands before the queue of a page.

    Args:
        page: A page with a queue; events that join it come here first.
        fetch: Fetches what request data name by address, and changes the data; None where
            addresses are not taken.
        has_addresses: Whether request data name anything by address.
    """

    def __init__(
        self,
        page: gr.Blocks,
        fetch: Fetch | None = None,
        has_addresses: Callable[[Any], bool] = bool,
    ) -> None:
        self._page, self._queue = page, page._queue
        self._fetch, self._has_addresses = fetch, has_addresses
        self._push = self._queue.push
        self._queue.push = self.push
        # Streams that are open, by the session or the event whose messages they bring.
        self.listeners: Counter[str] = Counter()
        self._fetching: dict[asyncio.Task[None], str] = {}
        self._last_seen: dict[str, float] = {}
        self._room_made = -float(UNREAD_SECONDS)

    async def push(
        self, body: PredictBodyInternal, request: Request, username: str | None
    ) -> Outcome:
        """Lets an event join the queue, or says why not; takes the place of the queue's own."""
        if len(body.session_hash or "") > _MAX_SESSION_NAME:
            return False, _ODD_SESSION, "error"
        step = self._page.fns.get(body.fn_index)
        if step is None:
            return await self._push(body, request, username)  # It says so in its own way.
        fetching = self._fetch is not None and step.api_visibility != "private"
        fetching = fetching and self._has_addresses(body.data)
        refusal = self._refusal(step, body.session_hash, request, fetching)
        if refusal:
            return False, refusal, "queue_full"
        outcome = await self._push(body, request, username)
        event = self._queue.event_ids_to_events.get(outcome[1]) if outcome[0] else None
        if event is not None:
            self._last_seen[event.session_hash] = time.monotonic()
            if fetching:
                self._hold_back(event)
            for waiting in self._queue.event_queue_per_concurrency_id.values():
                waiting.queue.sort(key=self._is_unread)
        return outcome

    def forget_unread(self) -> None:
        """Drops messages that nobody came for; Gradio keeps those of 2000 sessions, without end."""
        queue, busy = self._queue, {event.session_hash for event in self._events()}
        for session, seen in list(self._last_seen.items()):
            old = time.monotonic() - seen > KEPT_SECONDS
            if old and session not in busy and not self.listeners[session]:
                del self._last_seen[session]
                queue.pending_messages_per_session.pop(session, None)
                queue.pending_event_ids_session.pop(session, None)

    def _refusal(
        self, step: BlockFunction, session: str | None, request: Request, fetching: bool
    ) -> str | None:
        """Why an event cannot join, None where it can; makes room where nobody listens."""
        events = self._events()
        own = [event for event in events if event.session_hash == session]
        many = _too_many(own, step, MAX_OF_SESSION, MAX_ANALYSES_OF_SESSION)
        address = self._address(session, request)
        if address is not None:
            same = [e for e in events if self._address(e.session_hash, e.request) == address]
            many = many or _too_many(same, step, MAX_OF_ADDRESS, MAX_ANALYSES_OF_ADDRESS)
        if many:
            return f"There are {many} requests of yours in the queue; wait for one to be answered."
        if fetching:
            of_session = list(self._fetching.values()).count(session)
            limit = MAX_FETCHING if self._is_mcp(session) else MAX_FETCHING_OF_SESSION
            if len(self._fetching) >= MAX_FETCHING or of_session >= limit:
                return _FETCHING_FULL
        analyses = [event for event in events if _is_analysis(event.fn)]
        if _is_analysis(step) and len(analyses) >= MAX_ANALYSES and not self._make_room(analyses):
            return _ANALYSES_FULL
        if self._queue.max_size is not None and len(self._queue) >= self._queue.max_size:
            self._make_room(events)  # Where there is none, the queue says that it is full.
        return None

    def _events(self) -> list[Event]:
        """All that wait, are being worked on, or have images on the way."""
        return list(self._queue.event_ids_to_events.values())

    def _address(self, session: str | None, request: Request) -> str | None:
        """The sender's address where it is a person's; uvicorn knows which proxies to believe."""
        host = request.client.host if request.client else ""
        return host if is_public(host) and not self._is_mcp(session) else None

    def _is_mcp(self, session: str | None) -> bool:
        """Whether a session is the one in which Gradio runs the tools of all language models."""
        client = getattr(getattr(self._page, "mcp_server_obj", None), "_client_instance", None)
        return client is not None and client.session_hash == session

    def _is_unread(self, event: Event) -> bool:
        heard = self.listeners[event._id] or self.listeners[event.session_hash]
        return not heard and time.monotonic() - event.enqueue_time > UNREAD_SECONDS

    def _make_room(self, events: list[Event]) -> bool:
        """Takes out the oldest of some events that waits and that nobody listens for.

        One in a while: those who send more than they read would otherwise push out their own.
        """
        now = time.monotonic()
        if now - self._room_made < UNREAD_SECONDS:
            return False
        for event in events:
            waiting = self._queue.event_queue_per_concurrency_id[event.concurrency_id].queue
            if event in waiting and self._is_unread(event):
                waiting.remove(event)
                self._room_made = now
                self._dismiss(event, _UNREAD)
                return True
        return False

    def _dismiss(self, event: Event, sentence: str) -> None:
        """Ends an event that is not in the queue, with a sentence in place of a result."""
        self._queue.event_ids_to_events.pop(event._id, None)
        if event.session_hash in self._queue.pending_messages_per_session:
            told = error_payload(gr.Error(sentence, print_exception=False), False)
            self._queue.send_message(event, ProcessCompletedMessage(output=told, success=False))

    def _hold_back(self, event: Event) -> None:
        """Takes an event out of the queue again until its images have been fetched.

        Nothing else has run since it joined, so it is still there.
        """
        self._queue.event_queue_per_concurrency_id[event.concurrency_id].queue.remove(event)
        task = asyncio.create_task(self._bring_images(event))
        self._fetching[task] = event.session_hash
        task.add_done_callback(lambda done: self._fetching.pop(done, None))

    async def _bring_images(self, event: Event) -> None:
        try:
            await self._fetch(event.data.data)
        except (InctrlError, gr.Error) as error:
            return self._dismiss(event, str(error))
        except BaseException:
            self._dismiss(event, "The images could not be fetched; try again.")
            raise
        pending = self._queue.pending_event_ids_session.get(event.session_hash, ())
        if event._id not in pending:
            return self._dismiss(event, _UNREAD)  # Cancelled meanwhile.
        self._queue.event_queue_per_concurrency_id[event.concurrency_id].queue.append(event)


class Listening:
    """Middleware that notes for whose results somebody waits.

    Args:
        app: What is served.
        listeners: Open streams by session or event; changed.
    """

    def __init__(self, app: ASGIApp, listeners: Counter[str]) -> None:
        self.app, self.listeners = app, listeners

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, and counts it while it is being answered."""
        key = _listened(scope)
        if key is None:
            return await self.app(scope, receive, send)
        self.listeners[key] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.listeners[key] -= 1
            if self.listeners[key] <= 0:
                del self.listeners[key]


def _listened(scope: Scope) -> str | None:
    """The session or the event whose messages a request asks for."""
    if scope["type"] != "http" or scope["method"] != "GET":
        return None
    path = scope["path"].rstrip("/")
    if path.endswith("/queue/data"):
        return parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [None])[0]
    return path.rpartition("/")[2] if "/call/" in path else None


def _is_analysis(step: BlockFunction) -> bool:
    return step.concurrency_id == ANALYSIS_QUEUE["concurrency_id"]


def _too_many(events: list[Event], step: BlockFunction, most: int, most_analyses: int) -> int:
    """How many events there are where one more is too many, else 0."""
    analyses = [event for event in events if _is_analysis(event.fn)]
    if _is_analysis(step) and len(analyses) >= most_analyses:
        return len(analyses)
    return len(events) if len(events) >= most else 0
