"""Claims about the frame of all pages: no request, nothing that text could run, the same look."""

from __future__ import annotations

import json
import re

import pytest

from instil.views.html import escaped
from instil.views.page import as_script_json, html_page

EVIL = '</script><script>window.evil=1</script><img src=x onerror="window.evil=2"><!--&lt; {{data}} \u2028'


@pytest.mark.parametrize("text", [EVIL, "\ud83d", "\x00\x1b", "<!--<script>"])
def test_script_json_gives_the_text_back_and_holds_no_markup(text):
    written = as_script_json({"text": text})
    assert not set("<>&\u2028\u2029") & set(written)
    assert json.loads(written)["text"] == text
    written.encode("utf-8")


def test_a_page_loads_nothing_and_its_title_and_data_are_text():
    page = html_page(EVIL, body=f"<p>{escaped(EVIL)}</p>", script="0", data={"text": EVIL})
    assert page.count("<script") == 2
    assert "<img" not in page
    assert "unsafe" not in page
    assert not re.search(r"(?:https?:)?//[a-z]|@import|url\(", page)
    assert "default-src 'none'; script-src 'sha256-" in page


def test_a_page_without_a_script_allows_none():
    page = html_page("Run", body="<p>Run</p>")
    assert "script-src 'none'" in page
    assert "<script" not in page
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page
