"""The files of the chat page: who gets them, and what they allow the browser."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("fastapi")

from fastapi import FastAPI
from starlette.testclient import TestClient

from instil.generation.http_api.gate import Gate
from instil.generation.http_api.page.files import OPEN_PATHS, add_page
from instil.generation.http_api.page.policy import page_headers
from instil.generation.http_api.settings import ServeSettings
from instil.views.html import style_sheet

FILES = ("/", "/page.css", "/page.js")


def client(**settings):
    app = FastAPI()
    add_page(app)
    app.add_middleware(Gate, settings=ServeSettings(**settings), open_paths=OPEN_PATHS)
    return TestClient(app, base_url="http://localhost")


def test_every_file_has_the_policy_and_its_own_type():
    kinds = []
    for path in FILES:
        answer = client().get(path)
        assert answer.headers["content-security-policy"] == page_headers()["Content-Security-Policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        kinds.append(answer.headers["content-type"])
    assert kinds == ["text/html; charset=utf-8", "text/css; charset=utf-8", "text/javascript; charset=utf-8"]
    policy = page_headers()["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "'none'" in policy.split(";")[0]


def test_nothing_is_inline_and_nothing_is_loaded_from_elsewhere():
    page, style, script = (client().get(path).text for path in FILES)
    assert not re.search(r"\son\w+=|\sstyle=|<style", page)
    assert re.findall(r"<script[^>]*>", page) == ['<script src="page.js" defer>']
    assert not re.search(r"https?://", page.replace("http://www.w3.org/2000/svg", "") + style + script)
    assert "innerHTML" not in script
    assert "insertAdjacentHTML" not in script


def test_a_proxy_may_have_the_page_below_another_path():
    page, _, script = (client().get(path).text for path in FILES)
    assert not re.search(r'(?:src|href|action)="/|call\("/', page + script)


def test_the_look_is_that_of_the_other_pages():
    style = client().get("/page.css").text
    assert style.startswith(style_sheet("page.css") + style_sheet("tokens.css"))


@pytest.mark.parametrize("path", OPEN_PATHS)
def test_another_host_is_refused(path):
    answer = client().get(path, headers={"Host": "evil.example:8000"})
    assert answer.status_code == 403
    assert "not this machine's loopback" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", OPEN_PATHS)
def test_the_page_is_loaded_without_the_key(path):
    assert client(api_key="secret").get(path).is_success
    assert client(api_key="secret").head(path).is_success
    assert client(api_key="secret").post(path).status_code == 401


def test_no_other_path_is_open():
    for path in ("/v1/models", "/instil/tokens", "/page.js/", "/index.html", "/page.css%2f..%2f..%2fv1/models"):
        assert client(api_key="secret").get(path).status_code == 401, path


def test_methods_that_a_page_does_not_have_are_refused():
    assert client().post("/").status_code == 405
    head = client().head("/")
    assert (head.status_code, head.content) == (200, b"")


def test_a_browsers_request_for_an_icon_is_no_error():
    assert client().get("/favicon.ico").status_code == 204
