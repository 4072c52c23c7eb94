"""Whose requests the page answers: its own visitors', and those of hosts the operator allows.

A website that a visitor of a page on 127.0.0.1 has open may send requests there as well. Browsers
say where a request comes from (Origin), and JavaScript cannot change it. A name of the attacker's
that suddenly stands for 127.0.0.1 (DNS rebinding) shows in the Host.
"""

from __future__ import annotations

import ipaddress
import logging
import os
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .listening import is_loopback

logger = logging.getLogger(__name__)

VARIABLE = "INCTRL_ALLOWED_HOSTS"
_SPACES = ("*.hf.space", "huggingface.co", "*.huggingface.co")
_PORTS = {"http": 80, "https": 443}


def allowed_hosts() -> tuple[str, ...]:
    """Patterns of the hosts that the operator names, or that the place where the page runs has."""
    named = [entry.strip() for entry in os.environ.get(VARIABLE, "").split(",")]
    named.append(os.environ.get("SPACE_HOST", ""))
    if os.environ.get("SPACE_ID"):
        named += _SPACES
    root = os.environ.get("GRADIO_ROOT_PATH", "")
    if "://" in root:
        named.append(root)
    return tuple(_host_name(entry) for entry in named if entry)


class OriginCheck:
    """Middleware that refuses requests of foreign pages, and such as came by a foreign name.

    Args:
        app: What is guarded.
        own: Names that the page has besides, such as the one it listens on.
        any_name: Whether the page may be reached by names that are not known here, as one that
            listens on all addresses of a computer.
        extra: Gives names that are known only later.
    """

    def __init__(
        self,
        app: ASGIApp,
        own: Iterable[str],
        any_name: bool,
        extra: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self.app = app
        self._patterns = allowed_hosts()
        self._own = {name.lower() for name in own}
        # Who names a root path has a proxy in front of the page, which may pass its own name on;
        # who lists the names wants no others.
        behind = any_name or bool(os.environ.get("GRADIO_ROOT_PATH"))
        self._any_name = behind and not os.environ.get(VARIABLE)
        self._any_address = any_name
        self._extra = extra

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers it with a sentence."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if host and not self._is_ours(host, headers):
            await self._refuse(f"The host {host[:100]!r}", scope, receive, send)
        elif origin is None or self._is_same(origin, headers):
            await self.app(scope, receive, send)
        elif not self._is_allowed(_host_name(origin)):
            await self._refuse(f"The origin {origin[:100]!r}", scope, receive, send)
        else:
            await self.app(scope, receive, _sharing(send, origin))

    def _is_ours(self, host: str, headers: Headers) -> bool:
        # Browsers say where a request is from only where there is TLS, which is a proxy's, or on
        # this computer: no name of an attacker's, who could only stand for it without.
        if "sec-fetch-site" in headers:
            return True
        name = _host_name(host)
        if self._any_name or is_loopback(name) or name in self._own or self._is_allowed(name):
            return True
        # A page that is open to others is reached by its address too, which nobody can rebind.
        return self._any_address and _is_address(name)

    def _is_allowed(self, name: str) -> bool:
        patterns = (*self._patterns, *(_host_name(entry) for entry in self._extra()))
        return bool(name) and any(fnmatchcase(name, pattern) for pattern in patterns)

    @staticmethod
    def _is_same(origin: str, headers: Headers) -> bool:
        """Whether a request comes from this page itself, by whatever name it was opened."""
        # No script can set this one; it is right behind any proxy, but only where there is TLS or
        # on this computer.
        if headers.get("sec-fetch-site") == "same-origin":
            return True
        forwarded = headers.get("x-forwarded-host", "").split(",")[0].strip()
        scheme = origin.partition("://")[0]
        places = (_netloc(f"{scheme}://{host}") for host in (headers.get("host"), forwarded))
        return _netloc(origin) in [place for place in places if place is not None]

    @staticmethod
    async def _refuse(what: str, scope: Scope, receive: Receive, send: Send) -> None:
        logger.info("Refused %s for %s", what, scope["path"][:100])
        detail = f"{what} is not this page's own; whoever runs it can allow it with {VARIABLE}."
        await JSONResponse({"detail": detail}, 403)(scope, receive, send)


def _sharing(send: Send, origin: str) -> Send:
    """Lets the scripts of an allowed page read the answer; Gradio does not where it is local."""

    async def send_shared(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["Access-Control-Allow-Origin"] = origin
            headers.add_vary_header("Origin")
        await send(message)

    return send_shared


def _host_name(text: str) -> str:
    """The name or address alone, of a host, origin or address; empty where it cannot be read."""
    try:
        return (urlsplit(text if "://" in text else f"//{text}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _netloc(origin: str) -> tuple[str, int | None] | None:
    """Host and port of an origin; None where it has none."""
    try:
        parts = urlsplit(origin)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    return None if not parts.hostname else (parts.hostname.rstrip("."), port)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True
