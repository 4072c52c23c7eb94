"""Where the page listens: the addresses of this computer that a name stands for. No Gradio here.

Gradio looks for a free port on IPv4 alone, and prints addresses that no browser takes.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import InctrlError
from .settings import read_number

HOST = "127.0.0.1"
PORT = 7860
BACKLOG = 128

_ABSENT = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


@dataclass(frozen=True)
class Place:
    """Where the page shall listen.

    Attributes:
        host: Address or name, an IPv6 address without brackets.
        ports: Ports to try, in this order.
        said: What named the host, for sentences about it.
    """

    host: str
    ports: Sequence[int]
    said: str = "--host"


def find_place(host: str | None = None, port: int | None = None) -> Place:
    """The place that the command line or the environment names.

    Args:
        host: Address or name, IPv6 with or without brackets; None for ``GRADIO_SERVER_NAME``.
        port: 0 takes any that is free; None for ``GRADIO_SERVER_PORT`` or one of those after it.

    Raises:
        InctrlError: The port, or a variable, is not a number in its range.
    """
    if port is not None and not 0 <= port <= 65535:
        raise InctrlError(f"--port {port} is not a port; use a number from 1 to 65535.")
    first = read_number("GRADIO_SERVER_PORT")
    first = PORT if first is None else first
    ports = range(first, min(first + (read_number("GRADIO_NUM_PORTS") or 100), 65536))
    said = "--host"
    if not host:
        host, said = os.environ.get("GRADIO_SERVER_NAME"), "GRADIO_SERVER_NAME"
    host = (host or "").strip() or HOST
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    return Place(host, ports if port is None and first else [port or 0], said)


def is_loopback(host: str) -> bool:
    """Whether a name or address, without brackets, is this computer's own to itself alone."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False


def page_address(host: str, port: int) -> str:
    """An address of the page that a browser on this computer can open.

    >>> page_address("::1", 7860), page_address("0.0.0.0", 7860)
    ('http://[::1]:7860/', 'http://127.0.0.1:7860/')
    """
    host = {"0.0.0.0": "127.0.0.1", "0": "127.0.0.1", "*": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def listen(place: Place) -> tuple[list[socket.socket], int]:
    """Listens on all addresses that the host stands for, at the first port that is free.

    Returns:
        Sockets that listen, one an address, and their port.

    Raises:
        InctrlError: Nothing can listen there; the sentence says why.
    """
    busy: OSError | None = None
    for port in place.ports:
        try:
            return _listen_at(place, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise InctrlError(_sentence(place, port, error)) from error
            busy = error
    raise InctrlError(_sentence(place, place.ports[0], busy)) from busy


def _listen_at(place: Place, port: int) -> tuple[list[socket.socket], int]:
    try:
        kind = {"type": socket.SOCK_STREAM, "flags": socket.AI_PASSIVE}
        found = dict.fromkeys(socket.getaddrinfo(place.host, port, **kind))
    except (socket.gaierror, UnicodeError, ValueError) as error:
        raise InctrlError(
            f"{place.said} {place.host[:100]!r} names no address; use 127.0.0.1 for this computer "
            "alone, or 0.0.0.0 for all that can reach it."
        ) from error
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    try:
        for family, _, _, _, address in found:
            try:
                where = (address[0], port, *address[2:])
                sockets.append(_bound(family, where, alone=len(found) == 1))
            except OSError as error:
                # A name can stand for IPv6 as well, where this computer has none.
                if error.errno not in _ABSENT:
                    raise
                absent = error
            else:
                port = sockets[-1].getsockname()[1]  # The same on all, where any was asked for.
        if not sockets and absent is not None:
            raise absent
    except OSError:
        for opened in sockets:
            opened.close()
        raise
    return sockets, port


def _bound(family: int, address: tuple, alone: bool) -> socket.socket:
    # With its protocol: else asyncio leaves Nagle's algorithm on, and answers wait for 40 ms.
    opened = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # Elsewhere it would share the port with another process.
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # "::" is every address of this computer, as 0.0.0.0 is.
            both = alone and address[0] == "::"
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
        opened.bind(address)
        opened.listen(BACKLOG)
    except OSError:
        opened.close()
        raise
    return opened


def _sentence(place: Place, port: int, error: OSError | None) -> str:
    number = None if error is None else error.errno
    if number in _ABSENT:
        return (
            f"{place.said} {place.host} is not an address of this computer; use 127.0.0.1 for this "
            "computer alone, or 0.0.0.0 for all that can reach it."
        )
    if number in (errno.EACCES, errno.EPERM):
        return f"The page may not listen on port {port}; name one above 1023 with --port."
    if number == errno.EADDRINUSE:
        where = f"port {port}" if len(place.ports) == 1 else f"ports {port} to {place.ports[-1]}"
        return (
            f"The page cannot listen on {where}; end what else does, or name another with --port."
        )
    return f"The page cannot listen on {place.host}, port {port} ({error}); see --host and --port."
