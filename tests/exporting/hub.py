"""A Hub on this machine: the few endpoints that huggingface_hub uses to create, upload, branch and tag, over real HTTP."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hub(ThreadingHTTPServer):
    """The repository's branches and tags, what was sent, and what is to be refused.

    Attributes:
        commits: Branch and files of each commit, in order.
        branches: Names of branches.
        tags: Name and commit of each tag.
        refused: A part of a path; a request whose path holds it is answered with 403.
        tokens: The Authorization headers that came.
        created: What the creation of the repository asked for.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
        self.commits: list[tuple[str, dict[str, bytes]]] = []
        self.branches, self.tags, self.refused, self.tokens = {"main"}, {}, "", set()
        self.created: dict[str, object] = {}

    @property
    def is_private(self) -> bool:
        return self.created.get("private") is True or self.created.get("visibility") == "private"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def local_hub() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Requests(BaseHTTPRequestHandler):
    server: Hub

    def _answer(self, value, status=200):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_GET(self):
        hub = self.server
        if self.path.endswith("/refs"):
            refs = [
                [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": "0" * 40} for name in names]
                for kind, names in (("heads", hub.branches), ("tags", hub.tags))
            ]
            self._answer({"branches": refs[0], "converts": [], "tags": refs[1]})
        else:
            self._answer({"id": "me/model", "siblings": [], "sha": "0" * 40})

    def do_POST(self):
        hub, body = self.server, self._body()
        hub.tokens.add(self.headers.get("Authorization", ""))
        *_, verb, name = self.path.split("?")[0].split("/")
        if hub.refused and hub.refused in self.path:
            self._answer({"error": "not allowed here"}, 403)
        elif self.path == "/api/repos/create":
            hub.created = json.loads(body)
            self._answer({"url": f"{hub.endpoint}/me/model", "name": "me/model", "id": "me/model"})
        elif self.path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif verb == "preupload":
            files = json.loads(body)["files"]
            self._answer(
                {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
            )
        elif verb == "branch":
            status = 409 if name in hub.branches else 200
            hub.branches.add(name)
            self._answer({}, status)
        elif verb == "tag":
            hub.tags[json.loads(body)["tag"]] = name
            self._answer({})
        elif verb == "commit":
            lines = [json.loads(line) for line in body.splitlines()]
            files = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            hub.commits.append((name, files))
            oid = str(len(hub.commits)) * 40
            self._answer({"commitUrl": f"{hub.endpoint}/me/model/commit/{oid}", "commitOid": oid, "success": True})
        else:
            self._answer({"error": "no"}, 404)

    def log_message(self, *_):
        pass
