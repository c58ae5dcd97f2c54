"""Which origins ``--cors`` takes, and how they are compared with what a browser sends."""

from __future__ import annotations

import pytest

from instil.errors import ServeError
from instil.generation.http_api.origins import checked_origins


@pytest.mark.parametrize(
    ("typed", "origin"),
    [
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://localhost:3000/", "http://localhost:3000"),
        (" HTTP://LocalHost:80 ", "http://localhost"),
        ("https://example.org:443", "https://example.org"),
        ("https://example.org:80", "https://example.org:80"),
        ("http://[::1]:5173", "http://[::1]:5173"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ("*", "*"),
    ],
)
def test_an_origin_is_spelled_as_browsers_send_it(typed, origin):
    assert checked_origins([typed, typed]) == (origin,)


@pytest.mark.parametrize(
    "typed",
    ["localhost:3000", "null", "", "http://", "http://a/path", "http://a?x", "http://u:p@a", "http://*.example.org",
     "http://a b", "http://a:port", "http://[::1", "http://münchen.de", "**", "http://a,http://b"],
)  # fmt: skip
def test_what_is_no_origin_is_refused_with_an_example(typed):
    with pytest.raises(ServeError, match=r"^cors.*: is no origin\. Expected .*http://localhost:3000, or \*\. Copy"):
        checked_origins([typed])


def test_every_page_beside_one_page_is_refused():
    with pytest.raises(ServeError, match=r"^cors=.\*.: found beside other origins\."):
        checked_origins(["*", "http://localhost:3000"])
