"""A small hub on loopback that serves repositories out of a folder, and can misbehave."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".parquet", ".gz", ".bin")  # what a real hub keeps in large-file storage
API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/revision/([^/]+))?")
FILE = re.compile(r"/(?:(datasets)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


def commit_of(repository: str) -> str:
    return hashlib.sha1(repository.encode()).hexdigest()


class Hub:
    """Serves {folder}/{models or datasets}/{owner}/{name}/, each at one commit and as its branch main."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[str] = []
        self.failures = 0  # that many requests are answered with 500
        self.sent: dict[str, bytes] = {}  # file -> what is sent in its place
        self.short: set[str] = set()  # files that are announced whole and sent by half
        self.held: dict[str, threading.Event] = {}  # file -> what its second half waits for
        self.downloads: list[str] = []  # files that were sent, or begun
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"hub": self}))
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def add(self, kind: str, repository: str, files: dict[str, bytes]) -> str:
        """Put files into a repository; returns its commit."""
        for name, content in files.items():
            path = self.folder / kind / repository / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return commit_of(repository)

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None: ...

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(path)
        if self.hub.failures > 0:
            self.hub.failures -= 1
            self.reply(500, b"")
        elif match := API.fullmatch(path):
            self.info(*match.groups())
        elif match := FILE.fullmatch(path):
            self.file(*match.groups())
        else:
            self.reply(404, b"")

    def missing(self, kind: str, repository: str, revision: str) -> bool:
        if not (self.hub.folder / kind / repository).is_dir():
            self.reply(404, b"", {"X-Error-Code": "RepoNotFound"})
            return True
        if revision not in ("main", commit_of(repository)):
            self.reply(404, b"", {"X-Error-Code": "RevisionNotFound"})
            return True
        return False

    def info(self, kind: str, repository: str, revision: str | None) -> None:
        if self.missing(kind, repository, revision or "main"):
            return
        folder = self.hub.folder / kind / repository
        siblings = [listed(folder, file) for file in sorted(folder.rglob("*")) if file.is_file()]
        answer = {"id": repository, "sha": commit_of(repository), "siblings": siblings}
        self.reply(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def file(self, kind: str | None, repository: str, revision: str, name: str) -> None:
        if self.missing(kind or "models", repository, revision):
            return
        content = self.hub.sent.get(name, (self.hub.folder / (kind or "models") / repository / name).read_bytes())
        headers = {"X-Repo-Commit": commit_of(repository), "ETag": f'"{etag(name, content)}"'}
        if self.command == "GET":
            self.hub.downloads.append(name)
        whole = name not in self.hub.short or self.command == "HEAD"
        self.reply(200, content if whole else content[: len(content) // 2], headers, self.hub.held.get(name))

    def reply(
        self, status: int, content: bytes, headers: dict[str, str] | None = None, held: threading.Event | None = None
    ) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            if held:
                held.wait(60)
            with suppress(ConnectionError):  # nobody waits any more
                self.wfile.write(content[len(content) // 2 :])


def etag(name: str, content: bytes) -> str:
    """SHA-256 of large files, the git object of others, as the hub has it."""
    return hashlib.sha256(content).hexdigest() if name.endswith(LARGE) else blob(content)


def blob(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


def listed(folder: Path, file: Path) -> dict[str, Any]:
    """A file as the hub lists it."""
    content = file.read_bytes()
    large = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return {
        "rfilename": str(file.relative_to(folder)),
        "size": len(content),
        "blobId": blob(content),
        **({"lfs": large} if file.suffix in LARGE else {}),
    }
