"""A Hugging Face Hub on this computer: the routes and headers that its client relies on.

Repositories live in memory. Faults can be ordered: transfers that break off, content that does not
match its checksum, gates, errors. Every request is recorded.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE_SUFFIXES = (".safetensors", ".bin", ".pt")
RESOLVE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
API = re.compile(
    r"/api/models/(?P<repo>[^/]+/[^/]+)/(?P<verb>tree|preupload|commit)/(?P<rev>[^/]+)"
)
LARGE_BATCH = re.compile(r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch")


@dataclass
class Repo:
    """One repository: the files of its main branch, and how it behaves.

    Attributes:
        files: Path -> content.
        commit: 40 hexadecimal digits.
        gated: Whether its terms must be accepted first.
        token: Who may read it; None for everybody.
        status: Answer everything with this error.
        break_after: Path -> bytes after which the connection is cut.
        breaks: How many transfers are cut.
        damaged: Paths whose content is changed on the way.
        private: As asked for when it was made.
        held: Set by the server where it pauses for ever in the middle of a large file.
        hold: Whether it does.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    commit: str = "1" * 40
    gated: bool = False
    token: str | None = None
    status: int | None = None
    break_after: dict[str, int] = field(default_factory=dict)
    breaks: int = 0
    damaged: set[str] = field(default_factory=set)
    private: bool = False
    held: threading.Event = field(default_factory=threading.Event)
    hold: bool = False


@dataclass
class Request:
    """What was asked for."""

    method: str
    path: str
    range: str | None
    authorization: str | None


class Hub:
    """The server's state, and its address while it runs."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.uploads: dict[str, bytes] = {}
        self.requests: list[Request] = []
        self.write_token: str | None = None
        self.url = ""
        self.large_url = ""  # Another host, as at the Hub: large files come from elsewhere.

    def asked(self, method: str, part: str) -> list[Request]:
        """The recorded requests of a method whose path contains ``part``."""
        return [r for r in self.requests if r.method == method and part in r.path]


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Serves a hub on a free port of the loopback interface."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    hub.large_url = hub.url.replace("127.0.0.1", "localhost")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._resolve()

    def do_GET(self) -> None:
        path = self._path()
        if path.startswith("/large/"):
            self._send_large(path)
        elif match := API.fullmatch(path):
            self._list_tree(match)
        else:
            self._resolve()

    def do_PUT(self) -> None:
        self._path()
        content = self._body()
        self.hub.uploads[sha256(content)] = content
        self._answer(200)

    def do_POST(self) -> None:
        path, body = self._path(), self._body()
        if path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif self.headers.get("Authorization") != f"Bearer {self.hub.write_token}":
            self._answer(401, {"X-Error-Message": "Invalid credentials in Authorization header"})
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif match := LARGE_BATCH.fullmatch(path):
            self._offer_upload(json.loads(body))
        elif (match := API.fullmatch(path)) and match["verb"] == "preupload":
            files = [
                {
                    "path": entry["path"],
                    "uploadMode": "lfs" if entry["path"].endswith(LARGE_SUFFIXES) else "regular",
                    "shouldIgnore": False,
                }
                for entry in json.loads(body)["files"]
            ]
            self._json({"files": files})
        elif match and match["verb"] == "commit":
            self._commit(match["repo"], body)
        else:
            self._answer(404)

    def log_message(self, format: str, *args: Any) -> None:
        """Tests read ``hub.requests`` instead."""

    def _path(self) -> str:
        path = unquote(urlsplit(self.path).path)
        headers = self.headers
        self.hub.requests.append(
            Request(self.command, path, headers.get("Range"), headers.get("Authorization"))
        )
        return path

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _resolve(self) -> None:
        path = self._path() if self.command == "HEAD" else self.hub.requests[-1].path
        match = RESOLVE.fullmatch(path)
        repo = self._readable(match["repo"]) if match else self._answer(404)
        if repo is None:
            return
        if match["revision"] not in ("main", repo.commit):
            self._error(404, "RevisionNotFound", "Invalid rev id")
            return
        commit = {"X-Repo-Commit": repo.commit}
        content = repo.files.get(match["file"])
        if content is None:
            self._error(404, "EntryNotFound", "Entry not found", commit)
        elif match["file"].endswith(LARGE_SUFFIXES):
            large = {
                "Location": f"{self.hub.large_url}/large/{match['repo']}/{match['file']}",
                "X-Linked-Etag": f'"{sha256(content)}"',
                "X-Linked-Size": str(len(content)),
            }
            self._answer(302, commit | large)
        else:
            etag = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            self._answer(200, commit | {"ETag": f'"{etag}"'}, content)

    def _readable(self, name: str) -> Repo | None:
        """The repository, or None after the answer that the Hub gives instead."""
        repo = self.hub.repos.get(name)
        token = self.headers.get("Authorization")
        if repo is None or (repo.token and token != f"Bearer {repo.token}"):
            # Without a token the Hub does not tell a missing repository from a private one.
            self._error(404 if token else 401, "RepoNotFound", "Repository not found")
        elif repo.gated:
            self._error(401 if token is None else 403, "GatedRepo", "Access is restricted")
        elif repo.status:
            self._answer(repo.status)
        else:
            return repo
        return None

    def _send_large(self, path: str) -> None:
        owner, name, file = path.removeprefix("/large/").split("/", 2)
        repo = self.hub.repos[f"{owner}/{name}"]
        content = repo.files[file]
        if file in repo.damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        start = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
        headers = {"Content-Length": str(len(content) - start), "Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.send_response(206 if start else 200)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if file in repo.break_after and repo.breaks > 0:
            repo.breaks -= 1
            self.wfile.write(content[start : repo.break_after[file]])
            self.close_connection = True
            return
        if repo.hold:
            self.wfile.write(content[start : len(content) // 2])
            repo.held.set()
            self.close_connection = True
            with suppress(OSError):
                self.connection.recv(1)  # Until the other end is gone.
            return
        self.wfile.write(content[start:])

    def _list_tree(self, match: re.Match) -> None:
        repo = self._readable(match["repo"])
        if repo is not None:
            self._json(
                [
                    {"type": "file", "path": path, "size": len(content), "oid": "0" * 40}
                    for path, content in repo.files.items()
                ]
            )

    def _create(self, body: dict[str, Any]) -> None:
        name = f"{body['organization']}/{body['name']}"
        exists = name in self.hub.repos
        if not exists:
            self.hub.repos[name] = Repo(private=body.get("visibility") == "private")
        self._json({"url": f"{self.hub.url}/{name}", "id": name}, 409 if exists else 200)

    def _offer_upload(self, body: dict[str, Any]) -> None:
        objects = [
            {
                "oid": entry["oid"],
                "size": entry["size"],
                "actions": {"upload": {"href": f"{self.hub.large_url}/upload/{entry['oid']}"}},
            }
            for entry in body["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def _commit(self, name: str, body: bytes) -> None:
        repo = self.hub.repos[name]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                repo.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repo.files[value["path"]] = self.hub.uploads[value["oid"]]
        repo.commit = hashlib.sha1(body).hexdigest()
        address = f"{self.hub.url}/{name}/commit/{repo.commit}"
        self._json({"commitUrl": address, "commitOid": repo.commit})

    def _error(
        self, status: int, code: str, message: str, headers: dict[str, str] | None = None
    ) -> None:
        self._answer(status, {"X-Error-Code": code, "X-Error-Message": message} | (headers or {}))

    def _json(self, data: Any, status: int = 200) -> None:
        content = json.dumps(data).encode()
        self._answer(status, {"Content-Type": "application/json"}, content)

    def _answer(
        self, status: int, headers: dict[str, str] | None = None, content: bytes = b""
    ) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
