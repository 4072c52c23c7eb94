"""Fetches images that are named by their address, as language models do.

Gradio would fetch them as well, but whole into memory, unpacked, and from wherever a name leads.
Here the bytes go to a file as they arrive. httpcore, on which httpx rests, is used by itself for
two reasons: it opens its connections through a backend that is ours, so that what was checked is
what is connected to; and it hands over a body as it was sent, so that nothing unpacks.
"""

from __future__ import annotations

import asyncio
import ipaddress
import shutil
import socket
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import urljoin

import gradio as gr
import httpcore
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from httpx import URL, InvalidURL

from ...errors import InctrlError
from ...images.limits import MAX_BYTES, most_bytes
from ..common.downloads import new_file

# For all the images of a request together.
SECONDS = 30
MAX_TOTAL_BYTES = 5 * MAX_BYTES
MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Below lie the ports of mail, shells and the like; web pages are at 80 and 443, or above.
_FIRST_OPEN_PORT = 1024
_WEB_PORTS = frozenset({80, 443})
# A name server that never answers holds a thread; these few are for nothing else.
_RESOLVING_THREADS = 16

# One sentence for all that goes wrong: different ones would tell what listens where.
REFUSAL = "An image cannot be fetched from its address; give a public one, or upload it."

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
# For protocols, relays and examples; Python 3.11 counts some of them among the public ones.
_SPECIAL = [
    ipaddress.ip_network(network)
    for network in ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "3fff::/20")
]

_HEADERS = [(b"Accept", b"image/*"), (b"Accept-Encoding", b"identity")]
_FAILURES = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
    InvalidURL,
    TimeoutError,
    ValueError,
)


def is_address(path: object) -> bool:
    """Whether it names something on the network and no file."""
    return isinstance(path, str) and path.lower().startswith(("http://", "https://"))


class AddressFetcher:
    """Fetches the images of requests; one serves a whole page.

    Its few threads are for looking names up: a name server that never answers holds one, which the
    rest of the page does not miss.
    """

    def __init__(self) -> None:
        self._network = PublicNetwork()

    async def fetch(self, addresses: Sequence[str]) -> dict[str, Path]:
        """Fetches files from public hosts, all at once, to where uploads lie.

        Args:
            addresses: Their addresses; one that is named twice is fetched once.

        Returns:
            Where the file of each address lies.

        Raises:
            InctrlError: One is too large, or all together, or one cannot be had within
                ``SECONDS``; nothing of the others is kept then.
        """
        total = _Total()
        try:
            async with (
                asyncio.timeout(SECONDS),
                httpcore.AsyncConnectionPool(
                    network_backend=self._network,
                    max_connections=None,  # As many as there are addresses.
                    max_keepalive_connections=0,
                ) as pool,
                asyncio.TaskGroup() as group,
            ):
                tasks = {
                    address: group.create_task(_fetch(pool, address, total))
                    for address in dict.fromkeys(addresses)
                }
        except BaseException as error:
            for place in total.places:
                shutil.rmtree(place.parent, ignore_errors=True)
            told = _told(error)
            raise told from (None if told is error else error)
        return {address: task.result() for address, task in tasks.items()}


class PublicNetwork(httpcore.AsyncNetworkBackend):
    """Opens connections to public addresses only, whatever name or way led there."""

    def __init__(self) -> None:
        self._network = httpcore.AnyIOBackend()
        self._threads: CapacityLimiter | None = None  # Made where the loop is that it belongs to.

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Looks a host up and connects to what was found, not to what the name means later."""
        if port not in _WEB_PORTS and not _FIRST_OPEN_PORT <= port < 2**16:
            raise ValueError(f"port {port}")
        self._threads = self._threads or CapacityLimiter(_RESOLVING_THREADS)
        place = await find_public(host, self._threads)
        return await self._network.connect_tcp(place, port, timeout, local_address, socket_options)


async def find_public(host: str, threads: CapacityLimiter) -> str:
    """Looks a host up, with this computer's own resolver and no other.

    Args:
        host: Name, or an address in any of the forms that a resolver takes.
        threads: The threads that it may wait on.

    Returns:
        An address of the public internet.

    Raises:
        ValueError: The name is not known, or leads to anything that is not public.
    """
    look_up = partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
    try:
        found = await run_sync(look_up, abandon_on_cancel=True, limiter=threads)
    except OSError as error:
        raise ValueError("an unknown name") from error
    places = [entry[4][0] for entry in found]
    # Not the first that is public: a name that leads to both is a trick, or somebody's own network.
    if not places or not all(map(is_public, places)):
        raise ValueError("not a public address")
    return next((place for place in places if ":" not in place), places[0])


def is_public(place: str) -> bool:
    """Whether an IP address belongs to one computer on the public internet.

    >>> [is_public(place) for place in ("8.8.8.8", "100.64.0.1", "::ffff:10.0.0.1")]
    [True, False, False]
    """
    try:
        address = ipaddress.ip_address(place)
    except ValueError:
        return False
    if address.version == 6:
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if address not in _GLOBAL_UNICAST:
            return False
    special = any(address in network for network in _SPECIAL)
    return address.is_global and not address.is_multicast and not special


class _Total:
    """The images of one request so far."""

    def __init__(self) -> None:
        self.size = 0
        self.places: list[Path] = []

    def add(self, size: int) -> None:
        self.size += size
        if self.size > MAX_TOTAL_BYTES:
            raise InctrlError(
                "The images at the addresses are too large together; use at most "
                f"{MAX_TOTAL_BYTES >> 20} MB."
            )


async def _fetch(pool: httpcore.AsyncConnectionPool, address: str, total: _Total) -> Path:
    with new_file("image") as place:
        for _ in range(1 + MAX_REDIRECTS):
            url = URL(address)
            if url.userinfo or not is_address(address):
                raise ValueError("not an address of the web")
            target = httpcore.URL(
                scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
            )
            async with pool.stream("GET", target, headers=_HEADERS) as response:
                headers = {name.lower(): value for name, value in response.headers}
                if response.status in _REDIRECTS and b"location" in headers:
                    address = urljoin(address, headers[b"location"].decode("ascii"))
                    continue
                if not 200 <= response.status < 300:
                    raise ValueError(f"status {response.status}")
                if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
                    raise ValueError("packed, though that was not asked for")
                await _save(response, place, total)
                total.places.append(place)
                return place
        raise ValueError("too many redirects")


async def _save(response: httpcore.Response, place: Path, total: _Total) -> None:
    size = 0
    with place.open("wb") as file:
        async for part in response.aiter_stream():
            size += len(part)
            total.add(len(part))
            if size > most_bytes():
                raise InctrlError(
                    f"An image at an address is too large; use at most {most_bytes() / 2**20:g} MB."
                )
            file.write(part)


def _told(error: BaseException) -> BaseException:
    """The one error that is told of all that went wrong."""
    if isinstance(error, BaseExceptionGroup):
        errors = [_told(each) for each in error.exceptions]
        return next((each for each in errors if not isinstance(each, InctrlError)), errors[0])
    a_sentence = isinstance(error, InctrlError | gr.Error)
    return InctrlError(REFUSAL) if isinstance(error, _FAILURES) and not a_sentence else error
