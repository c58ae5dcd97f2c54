from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from instil.errors import ExportError


class Hub(BaseHTTPRequestHandler):
    """Stands in for the Hub: takes a repository and a commit."""

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
        self._answer({"id": "me/model", "siblings": [], "sha": "0" * 40})

    def do_POST(self):
        body = self._body()
        self.server.seen.append((self.path, body))
        if self.path == "/api/repos/create":
            self._answer({"url": f"http://{self.headers['Host']}/me/model", "name": "me/model", "id": "me/model"})
        elif self.path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            self._answer(
                {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
            )
        elif "/commit/" in self.path:
            self._answer(
                {
                    "commitUrl": f"http://{self.headers['Host']}/me/model/commit/1",
                    "commitOid": "1" * 40,
                    "success": True,
                }
            )
        else:
            self._answer({"error": "no"}, 404)

    def log_message(self, *_):
        pass


def test_a_folder_is_pushed_to_a_stand_in_of_the_hub(tmp_path, monkeypatch):
    from instil.exporting.push import push

    monkeypatch.setenv("HF_TOKEN", "test")
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # the stand-in is on this machine
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\nhello", encoding="utf-8")
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.seen = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        endpoint = f"http://127.0.0.1:{server.server_port}"
        address = push(tmp_path, "me/model", endpoint=endpoint)
        assert "/commit/" in address
        (commit,) = [body for path, body in server.seen if "/commit/" in path]
        assert {json.loads(line)["value"].get("path") for line in commit.splitlines()} >= {"README.md", "config.json"}
    finally:
        server.shutdown()
        server.server_close()
    with pytest.raises(ExportError, match="did not accept the upload"):
        push(tmp_path, "me/model", endpoint=endpoint)
