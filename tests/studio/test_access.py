"""Claims about who may open the studio."""

from __future__ import annotations

import re
import stat

import pytest
from tests.studio.served import TOKEN, Served

from instil.studio.access import Doorkeeper, session_secret
from instil.studio.workspace import open_workspace

PATHS = (
    "/",
    "/jobs",
    "/static/studio.css",
    "/static/studio.js",
    "/favicon.ico",
    "/events",
    "/runs/run/curve?run=a&chart=loss",
    "/nothing",
    "/docs",
    "/openapi.json",
)


def test_every_path_without_the_token_is_401_static_files_too(served):
    for path in PATHS:
        for cookie in (
            {},
            {"Cookie": f"instil-studio-{served.port}=wrong"},
            {"Cookie": f"instil-studio-{served.port}={TOKEN}"},
        ):
            answer = served.request("GET", path, headers=cookie)
            assert answer.status == 401, path
            assert str(served.root) not in answer.text
    assert served.request("GET", "/?token=wrong").status == 401
    assert (
        served.request("POST", f"/language?token={TOKEN}", headers={"Origin": served.url}, body=b"language=vi").status
        == 401
    )


def test_the_first_address_moves_the_token_into_a_strict_cookie(served):
    answer = served.request("GET", f"/jobs?token={TOKEN}&a=1")
    assert (answer.status, answer.headers["location"]) == (303, "/jobs?a=1")
    name, _, rest = answer.headers["set-cookie"].partition("=")
    assert name == f"instil-studio-{served.port}"
    assert TOKEN not in rest
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(rest.split("; "))
    assert (
        served.request("GET", "/jobs", headers={"Cookie": answer.headers["set-cookie"].partition(";")[0]}).status == 200
    )


def test_the_redirection_names_no_other_server(served):
    assert served.request("GET", f"//elsewhere.example/?token={TOKEN}").headers["location"].startswith("/elsewhere")
    assert (
        served.post("/language", language="en", back="//elsewhere.example/").headers["location"]
        == "/elsewhere.example/"
    )
    assert (
        served.post("/language", language="en", back="https://elsewhere.example/").headers["location"]
        == "/https://elsewhere.example/"
    )


@pytest.mark.slow
@pytest.mark.parametrize("host", ["elsewhere.example", "127.0.0.1.elsewhere.example:80", "192.168.0.1", "", "[::2]:80"])
def test_another_host_is_421_also_with_the_cookie(served, host):
    assert served.get("/", Host=host).status == 421


def test_names_of_this_machine_are_known():
    door = Doorkeeper("t", "s", "0.0.0.0", 1)
    assert all(map(door.knows_host, ("localhost:9", "127.0.0.1", "[::1]:80", "10.1.2.3:80")))
    assert not door.knows_host("elsewhere.example")
    assert not Doorkeeper("t", "s", "10.0.0.1", 1).knows_host("10.0.0.2")


@pytest.mark.slow
@pytest.mark.parametrize(
    "origin", [None, "null", "http://elsewhere.example", "http://127.0.0.1:1", "https://127.0.0.1"]
)
def test_a_write_of_another_origin_is_403(served, origin):
    headers = {"Cookie": served.cookie} | ({} if origin is None else {"Origin": origin})
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert served.request(method, "/language", headers=headers, body=b"language=vi").status == 403
    assert served.post("/language", language="vi").status == 303


def test_every_answer_has_the_policy(served):
    answers = [served.get(path) for path in ("/", "/jobs", "/static/studio.js", "/nothing", "/favicon.ico")]
    answers += [served.request("GET", "/"), served.get("/", Host="x"), served.request("POST", "/language", body=b"")]
    assert [answer.status for answer in answers] == [200, 200, 200, 404, 204, 401, 421, 403]
    for answer in answers:
        policy = {part.split()[0]: part.split()[1:] for part in answer.headers["content-security-policy"].split("; ")}
        assert policy == {
            "default-src": ["'none'"],
            "script-src": ["'self'"],
            "style-src": ["'self'"],
            "img-src": ["'self'", "data:"],
            "connect-src": ["'self'"],
            "form-action": ["'self'"],
            "base-uri": ["'none'"],
            "frame-ancestors": ["'none'"],
        }
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"


def test_a_restart_keeps_open_tabs_and_another_key_closes_them(workspace):
    root = open_workspace(workspace)
    with Served(workspace) as first:
        cookie = first.cookie.partition("=")[2]
    assert session_secret(root, key=None) == cookie
    assert session_secret(root, key="another key of someone") != cookie
    assert stat.S_IMODE((root / ".instil-studio" / "session").stat().st_mode) == 0o600
    assert stat.S_IMODE((root / ".instil-studio").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("accepted", "words"), [("en", "asks for its token"), ("zh-CN", "需要令牌"), ("vi", "mã truy cập")]
)
def test_the_page_without_the_token_is_readable_in_the_language_of_the_browser(served, accepted, words):
    answer = served.request("GET", "/", headers={"Accept-Language": accepted})
    assert answer.status == 401
    assert words in answer.text
    assert re.search(r'<html lang="(en|zh-Hans|vi)">', answer.text)


def test_row_text_in_an_address_is_text(served):
    answer = served.get("/runs/run/curve?chart=loss&run=%3C/script%3E%3Cscript%3Ealert(1)%3C/script%3E")
    assert answer.status == 404
    assert "<script>alert" not in answer.text
    assert "&lt;script&gt;alert" in answer.text
