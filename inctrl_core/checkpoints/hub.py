"""Files from and to the Hugging Face Hub, with a sentence for every way in which that can fail.

All goes through huggingface_hub and its standard cache, so HF_HOME, HF_ENDPOINT, HF_TOKEN and
HF_HUB_OFFLINE work as everywhere. A file appears in the cache whole or not at all.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from httpx2 import ConnectError, ConnectTimeout, InvalidURL, ProxyError
from huggingface_hub import (
    CommitOperationAdd,
    HfApi,
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import tqdm

from ..errors import ModelError
from .proxies import describe_proxy, unusable_proxy

Progress = Callable[[int, int | None], None]
"""Called with the bytes that have arrived and, where known, the bytes to come in all."""

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pyth")

_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_WRITING = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_OUT_OF_REACH = (
    ConnectError,
    ConnectTimeout,
    FileMetadataError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    ProxyError,
)
# What the client raises where no client can be made for the proxies of the environment.
_NO_CLIENT = (ImportError, InvalidURL, ValueError)
_FAILURES = (HTTPError, OSError, RuntimeError, EntryNotFoundError, *_NO_CLIENT)


def is_repo_id(name: str) -> bool:
    """Whether ``name`` has the form USER/REPO."""
    return _REPO_ID.fullmatch(name) is not None


def is_cached(repo: str, filename: str, revision: str | None = None) -> bool:
    """Whether a repository's file is in the local cache; asks nobody."""
    return isinstance(try_to_load_from_cache(repo, filename, revision=revision), str)


def cached_commit(repo: str, filename: str, revision: str | None = None) -> str | None:
    """The commit that a repository's file in the local cache is of; asks nobody."""
    cached = try_to_load_from_cache(repo, filename, revision=revision)
    return Path(cached).parent.name if isinstance(cached, str) else None


def fetch_file(
    repo: str, filename: str, revision: str | None = None, on_progress: Progress | None = None
) -> Path:
    """The path of a repository's file in the local cache, downloaded where it is not there yet.

    What arrives is compared with the checksum that the Hub names, and thrown away where it differs.

    Args:
        repo: USER/REPO.
        filename: Path inside the repository.
        revision: Branch, tag or commit; None for the main branch.
        on_progress: Told of the download; on the command line a progress bar shows it as well.

    Raises:
        ModelError: The file cannot be had; the sentence says why and what to do.
    """
    if filename.endswith(PICKLE_SUFFIXES):
        raise _pickle_error(f"{repo}/{filename}")
    with _explained(f"{repo}/{filename}", repo, revision):
        cached = try_to_load_from_cache(repo, filename, revision=revision)
        if not isinstance(cached, str) and not constants.is_offline_mode():
            # The client repeats a refused connection for half a minute; this finds out at once.
            get_hf_file_metadata(hf_hub_url(repo, filename, revision=revision))
        bar = _progress_bar(on_progress)
        try:
            path = Path(hf_hub_download(repo, filename, revision=revision, tqdm_class=bar))
        except (ProxyError, *_NO_CLIENT):
            # Unlike a network that is down, a proxy that refuses stops the client.
            if not isinstance(cached, str):
                raise
            path = Path(cached)
        if str(path) != cached and not _has_its_checksum(path):
            discard(path)
            raise ModelError(f"{repo}/{filename} arrived damaged and was thrown away; try again.")
    return path


def fetch_model(
    repo: str,
    needed: Callable[[Path], tuple[str, ...]],
    revision: str | None = None,
    on_progress: Progress | None = None,
) -> Path:
    """Fetches a model directory of this program's format, all files of one commit.

    Args:
        repo: USER/REPO.
        needed: Given the directory with ``config.json`` in it, the other files that it needs.
        revision: Branch, tag or commit; None for the main branch.
        on_progress: As in :func:`fetch_file`.

    Returns:
        The directory in the local cache.

    Raises:
        ModelError: As in :func:`fetch_file`.
    """
    directory = fetch_file(repo, "config.json", revision).parent
    for filename in needed(directory):
        # The folder is named by the commit, so that a push in between cannot mix two models.
        fetch_file(repo, filename, directory.name, on_progress)
    return directory


def discard(path: Path) -> None:
    """Removes a damaged file from the cache, so that the next try fetches it anew.

    A file outside the cache is left alone: it belongs to somebody.
    """
    cache = Path(constants.HF_HUB_CACHE).resolve()
    blob = path.resolve()
    if blob.is_relative_to(cache):
        path.unlink(missing_ok=True)
        blob.unlink(missing_ok=True)


def upload_model(repo: str, files: Mapping[str, Path | bytes], private: bool = False) -> str:
    """Writes files to a repository in one commit, making the repository where it does not exist.

    Args:
        repo: USER/REPO.
        files: Path inside the repository -> local file or content.
        private: Whether a repository that is made here is private.

    Returns:
        The commit's address.

    Raises:
        ModelError: The Hub refuses or cannot be reached.
    """
    operations = [
        CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
        for name, content in files.items()
    ]
    with _explained(repo, repo, None):
        if constants.is_offline_mode():
            raise ModelError("HF_HUB_OFFLINE forbids the upload; unset it and try again.")
        api = HfApi()
        api.create_repo(repo, private=private, exist_ok=True)
        commit = api.create_commit(repo, operations, commit_message="Upload an InCTRL model")
    return str(commit.commit_url)


@contextmanager
def _explained(what: str, repo: str, revision: str | None) -> Iterator[None]:
    try:
        yield
    except ModelError:
        raise
    except _FAILURES as error:
        sentence = _sentence(error, what, repo, revision)
        raise ModelError(_with_way_by_hand(sentence, error, what, repo)) from error


def _with_way_by_hand(sentence: str, error: Exception, what: str, repo: str) -> str:
    """The sentence, and where the Hub is out of reach, how its file may come by other means."""
    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if what == repo or not isinstance(error, _OUT_OF_REACH):
        return sentence
    if what.removeprefix(f"{repo}/") in ("config.json", "model.safetensors"):
        way = f"fetch the files of {repo} by other means into a folder, and name that with --model"
    else:
        way = f"fetch {what} by other means, and name the file with --model"
    return f"{sentence.removesuffix('.')}; or {way}."


def _sentence(error: Exception, what: str, repo: str, revision: str | None) -> str:
    """One sentence on why ``what`` could not be had, and what to do."""
    if isinstance(error, HFValidationError):
        return f"'{repo}' is not a repository id; it has the form USER/REPO."
    if isinstance(error, LocalEntryNotFoundError):
        return _sentence_on_absence(error, what, repo, revision)
    if isinstance(error, EntryNotFoundError):
        return _sentence_on_missing_file(what, repo, revision)
    if isinstance(error, RevisionNotFoundError):
        name = revision or constants.DEFAULT_REVISION
        return f"{repo} has no revision '{name}'; check the branch, tag or commit."
    if isinstance(error, HfHubHTTPError):
        return _sentence_on_answer(error, repo)
    if isinstance(error, OfflineModeIsEnabled):
        return f"{what} is not in the local cache, and HF_HUB_OFFLINE forbids a download; unset it."
    if isinstance(error, FileMetadataError | json.JSONDecodeError):
        return (
            f"{constants.ENDPOINT} does not answer as the Hugging Face Hub does; "
            "check HF_ENDPOINT and any proxy."
        )
    if isinstance(error, _NO_CLIENT) and (sentence := unusable_proxy()):
        return f"{what} cannot be fetched: {sentence}"
    if isinstance(error, ValueError):  # A path out of the repository, or characters of no name.
        return f"{what!r} is not a file that a repository can have; check its name and revision."
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return f"The disk is full, so {what} was not kept; free some space, or move HF_HOME."
    if isinstance(error, OSError) and error.errno in _NO_WRITING:
        cache = constants.HF_HUB_CACHE
        return f"The cache {cache} cannot be written; set HF_HOME to another folder."
    if isinstance(error, ConnectError | ConnectTimeout | ProxyError):
        return _sentence_on_connection(error, what)
    return f"The transfer of {what} broke off and nothing was kept; try again."


def _sentence_on_connection(error: Exception, what: str) -> str:
    proxy = describe_proxy(constants.ENDPOINT)
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return (
            f"{constants.ENDPOINT} shows a certificate that is not trusted here; where a proxy of "
            "your company gives it its own, name the company's CA file with SSL_CERT_FILE."
        )
    start = f"{what} is not in the local cache, and {constants.ENDPOINT} cannot be reached"
    if proxy is None:
        return f"{start}; check the connection and try again."
    if isinstance(error, ProxyError):  # Its answer, such as "403 Forbidden".
        return f"{start}: {proxy}, refuses ({str(error)[:100]}); ask who runs it, or correct it."
    return f"{start} through {proxy}; correct or unset it."


def _sentence_on_absence(
    error: LocalEntryNotFoundError, what: str, repo: str, revision: str | None
) -> str:
    cause = error.__cause__
    if isinstance(cause, Exception):
        return _sentence(cause, what, repo, revision)
    return f"{what} is not in the local cache; connect to the network once to fetch it."


def _sentence_on_missing_file(what: str, repo: str, revision: str | None) -> str:
    try:
        names = HfApi().list_repo_files(repo, revision=revision)
    except (HTTPError, OSError):
        names = []  # The listing only sharpens the message.
    pickles = [name for name in names if name.endswith(PICKLE_SUFFIXES)]
    if pickles and not any(name.endswith(".safetensors") for name in names):
        return str(_pickle_error(f"{repo}/{pickles[0]}"))
    return f"{what} does not exist on the Hub; {repo} is not a model that this program reads."


def _sentence_on_answer(error: HfHubHTTPError, repo: str) -> str:
    status = error.response.status_code
    if isinstance(error, GatedRepoError):
        return (
            f"{repo} is gated; accept its terms at {constants.ENDPOINT}/{repo} "
            "and set HF_TOKEN to your token."
        )
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"The Hub has no model {repo} that you may read; check the name, "
            "and for a private one set HF_TOKEN to your token."
        )
    if status in (403, 407) and (proxy := _answering_proxy(error)):
        return f"{repo} cannot be fetched: {proxy}, refuses ({status}); ask who runs it."
    if status in (401, 403):
        return f"The Hub refuses your token for {repo}; set HF_TOKEN to one with access."
    return f"The Hub answered {repo} with an error ({status}); try again later."


def _answering_proxy(error: HfHubHTTPError) -> str | None:
    """The proxy that gave the answer itself, as it can without TLS; None where the Hub gave it."""
    answer = error.response
    if answer.url.scheme != "http" or any(name.startswith("x-") for name in answer.headers):
        return None  # The Hub's own answers name the error, or the request, in such headers.
    return describe_proxy(str(answer.url))


def _pickle_error(what: str) -> ModelError:
    return ModelError(
        f"{what} is a pickle, which could run code, and is refused; "
        "use a model whose weights are in safetensors format."
    )


def _has_its_checksum(path: Path) -> bool:
    """Whether a downloaded file is what its name in the cache says; small files have no SHA-256."""
    blob = path.resolve()
    if not _SHA256.fullmatch(blob.name):
        return True
    with blob.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == blob.name


def _progress_bar(on_progress: Progress | None) -> type[tqdm] | None:
    """The client's own bar, which also tells ``on_progress``; None for the bar as it is."""
    if on_progress is None:
        return None

    class ReportingBar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            # A bar that is not drawn, as on a server, does not count either.
            self._arrived, self._expected = kwargs.get("initial", 0), kwargs.get("total")

        def update(self, n: float | None = 1) -> bool | None:
            self._arrived += n or 0
            on_progress(int(self._arrived), self._expected)
            return super().update(n)

    return ReportingBar
