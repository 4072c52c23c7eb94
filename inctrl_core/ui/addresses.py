"""Fetches images that are named by their address, as language models do.

Gradio would fetch them too, from public hosts only as here, but whole into memory, however large.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urljoin

from httpx import URL, AsyncClient, HTTPError, InvalidURL, Response
from safehttpx import AsyncSecureTransport, async_validate_url

from ..errors import InctrlError
from ..image_files import MAX_BYTES
from .downloads import new_file

SECONDS = 30
MAX_REDIRECTS = 5


def is_address(path: object) -> bool:
    """Whether it names something on the network and no file."""
    return isinstance(path, str) and path.startswith(("http://", "https://"))


async def fetch_image(address: str) -> Path:
    """Fetches a file from a public host, to where uploads lie.

    Raises:
        InctrlError: It is too large, or cannot be had in ``SECONDS``.
    """
    with new_file("image") as place:
        try:
            async with asyncio.timeout(SECONDS):
                await _fetch(address, place)
        except (HTTPError, InvalidURL, TimeoutError, ValueError) as error:
            if isinstance(error, InctrlError):
                raise
            raise InctrlError(
                "An image cannot be fetched from its address; give a public one, or upload it."
            ) from error
    return place


async def _fetch(address: str, place: Path) -> None:
    for _ in range(1 + MAX_REDIRECTS):
        # Each host anew, and the connection goes to what was looked at, not to what the name stands
        # for a moment later.
        transport = AsyncSecureTransport(await async_validate_url(URL(address).host))
        async with (
            AsyncClient(transport=transport) as client,
            client.stream("GET", address) as response,
        ):
            if not response.has_redirect_location:
                response.raise_for_status()
                return await _save(response, place)
            address = urljoin(address, response.headers["Location"])
    raise ValueError("too many redirects")


async def _save(response: Response, place: Path) -> None:
    size = 0
    with place.open("wb") as file:
        async for part in response.aiter_bytes():
            size += len(part)
            if size > MAX_BYTES:
                raise InctrlError(
                    f"An image at an address is too large; use at most {MAX_BYTES >> 20} MB."
                )
            file.write(part)
