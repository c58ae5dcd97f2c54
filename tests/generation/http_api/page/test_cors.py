"""Which pages of other origins a browser lets call the server."""

from __future__ import annotations

import pytest

pytest.importorskip("fastapi")

from starlette.responses import JSONResponse
from starlette.testclient import TestClient

from instil.generation.http_api.gate import Gate
from instil.generation.http_api.page.cors import Cors
from instil.generation.http_api.settings import ServeSettings

PAGE = "http://localhost:3000"


def client(*origins, **settings):
    gate = Gate(JSONResponse({"ok": True}), settings=ServeSettings(**settings))
    return TestClient(Cors(gate, origins=origins), base_url="http://localhost")


def preflight(origin, *origins, method="POST", headers="authorization,content-type"):
    asked = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return client(*origins).options("/v1/chat/completions", headers=asked)


def test_a_named_page_may_send_json_and_a_key_and_no_cookie():
    answer = preflight(PAGE, PAGE, "https://example.org")
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    allowed = answer.headers["access-control-allow-headers"].lower()
    assert "authorization" in allowed
    assert "content-type" in allowed
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("origin", ["http://localhost:3001", "https://localhost:3000", "null", f"{PAGE}.evil.example"])
def test_any_other_page_is_refused_with_the_option_that_allows_it(origin):
    answer = preflight(origin, PAGE)
    assert answer.status_code == 400
    assert "access-control-allow-origin" not in answer.headers
    assert f"Start it with --cors {origin} to allow them." in answer.json()["error"]["message"]
    assert "access-control-allow-origin" not in client(PAGE).get("/", headers={"Origin": origin}).headers


def test_every_page_is_allowed_only_by_a_star():
    answer = preflight("https://anything.example", "*")
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "*")
    assert "access-control-allow-credentials" not in answer.headers


def test_the_headers_of_openais_own_client_are_allowed_and_no_other():
    assert preflight(PAGE, PAGE, headers="content-type,x-stainless-os,x-stainless-retry-count").status_code == 200
    assert preflight(PAGE, PAGE, headers="x-other").status_code == 400
    assert preflight(PAGE, PAGE, method="DELETE").status_code == 400


def test_a_page_can_read_why_it_was_refused():
    answer = client(PAGE, api_key="k").get("/", headers={"Origin": PAGE})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, PAGE)
    assert "Origin" in answer.headers["vary"]
