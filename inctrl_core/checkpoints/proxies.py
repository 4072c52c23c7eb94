"""Which proxy a request goes through, and which variable of the environment says so."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from httpx2 import InvalidURL, Proxy

# What requests of the two clients in use look for.
_SCHEMES = ("http", "https", "all")


def describe_proxy(url: str) -> str | None:
    """The proxy that a request goes through, with its variable; None where it goes through none.

    Args:
        url: Address that is asked for.

    Returns:
        For example "the proxy http://proxy.example:3128, which https_proxy names".
    """
    parts = urlsplit(url)
    proxies = _proxies()
    scheme = next((name for name in (parts.scheme, "all") if name in proxies), None)
    if scheme is None or proxy_bypass(parts.hostname or ""):
        return None
    return f"the proxy {_shown(proxies[scheme])}, which {_variable(scheme)} names"


def unusable_proxy() -> str | None:
    """Why no client can be made with these variables, in a sentence; None where one can."""
    for scheme, address in _proxies().items():
        named = f"{_variable(scheme)} names the proxy {_shown(address)}"
        try:
            kind = Proxy(_with_scheme(address)).url.scheme
        except (ValueError, InvalidURL):
            return (
                f"{named}, which is not a proxy's address; use the form http://HOST:PORT or "
                "socks5://HOST:PORT, or unset it."
            )
        if kind.startswith("socks") and find_spec("socksio") is None:
            return (
                f"{named}, and SOCKS needs the package socksio; install it, or name an HTTP proxy."
            )
    return None


@contextmanager
def hidden_proxies() -> Iterator[None]:
    """Hides all proxies from clients that are made meanwhile; only before threads run."""
    before = {name: os.environ.get(name) for name in ("no_proxy", "NO_PROXY")}
    os.environ.update(dict.fromkeys(before, "*"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _proxies() -> dict[str, str]:
    """Addresses of the proxies by scheme; none where ``no_proxy`` is ``*``."""
    found = getproxies()
    if "*" in (host.strip() for host in found.get("no", "").split(",")):
        return {}
    return {scheme: found[scheme] for scheme in _SCHEMES if found.get(scheme)}


def _variable(scheme: str) -> str:
    """The name of the variable as it is written; lower case wins where both are set."""
    wanted = f"{scheme}_proxy"
    if os.environ.get(wanted):
        return wanted
    written = (name for name in os.environ if name.lower() == wanted)
    return next(written, "the system's settings")


def _with_scheme(address: str) -> str:
    return address if "://" in address else f"http://{address}"


def _shown(address: str) -> str:
    """The address without a password, and cut."""
    scheme, _, rest = _with_scheme(address).partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}".encode("unicode_escape").decode()[:100]
