"""The site as it is built: strict, whole, quiet on the network, and searched in three languages by a browser."""

from __future__ import annotations

import functools
import http.server
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, unquote, urldefrag, urljoin

import pytest
from tests.docs.pages import PAGES, ROOT, name_of
from tests.inspection.browser import Browser, needs_chromium

pytest.importorskip("sphinx")
polib = pytest.importorskip("polib")
from docs_site.languages import LANGUAGES  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The whole site, built as `make docs` builds it, without running the lessons."""
    out = tmp_path_factory.mktemp("build") / "site"
    command = [sys.executable, "docs/make_site.py", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@dataclass
class Page(HTMLParser):
    """What a page of the site names: anchors, links, and what a browser loads with it."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.ids.add(named.get("id", ""))
        if tag == "a" and "href" in named:
            self.links.append(named["href"])
        elif tag != "a":
            self.loads += [named[name] for name in ("src", "href") if name in named]


@pytest.fixture(scope="module")
def pages(site) -> dict[str, Page]:
    """Every page of the site, by its path."""
    read = {}
    for path in sorted(site.rglob("*.html")):
        page = Page()
        page.feed(path.read_text(encoding="utf-8"))
        read[path.relative_to(site).as_posix()] = page
    return read


def test_each_page_is_there_in_each_language(pages):
    for language in LANGUAGES:
        for name in map(name_of, PAGES):
            assert f"{language}/{name}.html" in pages


def test_no_link_is_broken(site, pages):
    num_links, broken = 0, []
    for path, page in pages.items():
        for link in [*page.links, *page.loads]:
            if ":" in link.split("/")[0] or link.startswith("//"):
                continue  # another host: nobody asks it here
            target, anchor = urldefrag(urljoin(path, link))
            target = unquote(target.split("?")[0])
            num_links += 1
            there = target in pages or (site / target).is_file()
            if not there or (anchor and target in pages and unquote(anchor) not in pages[target].ids):
                broken.append(f"{path}: {link}")
    assert num_links > 1000
    assert broken == []


def test_every_translated_sentence_is_shown(site):
    """Sphinx drops a translation in silence if it reads it as another block: `2. Data` is a list, `2\\. Data` is not."""
    num_seen, english = 0, []
    for language in LANGUAGES.keys() - {"en"}:
        for name in map(name_of, PAGES):
            text = unescape((site / language / f"{name}.html").read_text(encoding="utf-8")).replace("’", "'")
            for entry in polib.pofile(str(ROOT / "docs" / "locale" / language / "LC_MESSAGES" / f"{name}.po")):
                # Up to the first mark. Why two words: one word such as "output" may stand alone in a code block too.
                start = re.split(r"[`*\[\\]", entry.msgid)[0]
                if entry.obsolete or not entry.translated() or " " not in start.strip() or start in entry.msgstr:
                    continue
                num_seen += 1
                if f">{start}<" in text:
                    english.append(f"{language}/{name}: {entry.msgid}")
    assert num_seen > 200
    assert english == []


def test_an_option_in_the_text_can_be_copied(site):
    text = (site / "en" / "docs" / "reference" / "commands.html").read_text(encoding="utf-8")
    assert ": --optimizer.lr 1e-4" in text


def test_no_page_loads_from_another_host(pages):
    outside = [f"{path}: {name}" for path, page in pages.items() for name in page.loads if "//" in name]
    assert outside == []


def test_the_catalogues_have_the_sentences_of_the_pages(tmp_path):
    command = "import make_translations, pathlib, sys; make_translations.write_templates(pathlib.Path(sys.argv[1]))"
    templates = tmp_path / "gettext"
    subprocess.run([sys.executable, "-c", command, str(templates)], cwd=ROOT / "docs", check=True, timeout=300)
    num_pages = 0
    for path in sorted(templates.rglob("*.pot")):
        page = path.relative_to(templates).with_suffix(".po")
        for language in LANGUAGES.keys() - {"en"}:
            catalogue = polib.pofile(str(ROOT / "docs" / "locale" / language / "LC_MESSAGES" / page))
            messages = {entry.msgid for entry in catalogue if not entry.obsolete}
            assert messages == {entry.msgid for entry in polib.pofile(str(path))}, (
                f"{page}: run: make docs-translations"
            )
            num_pages += 1
    assert num_pages > 60


class Quiet(http.server.SimpleHTTPRequestHandler):
    """The server of `make serve-docs`, without its log."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(site):
    """The address of the site on this machine."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """One browser for all looks."""
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


def found(browser: Browser, address: str, language: str, query: str) -> list[str]:
    """Return the addresses of the pages that a search lists."""
    browser.open(f"{address}/{language}/search.html?q={quote(query)}")
    end = time.monotonic() + 20
    while time.monotonic() < end:
        # The number of pages is written when the last of them is listed.
        if browser.run("document.querySelector('.search-summary')?.innerText"):
            return browser.run("[...document.querySelectorAll('ul.search a')].map(a => a.pathname)")
        time.sleep(0.05)
    raise AssertionError(f"the search for {query!r} does not end")


@needs_chromium
@pytest.mark.parametrize(
    ("language", "query", "page"),
    [
        ("en", "loss mask", "docs/index"),
        ("zh_CN", "损失掩码", "docs/index"),
        ("zh_CN", "掩码", "docs/index"),
        ("zh_CN", "怎样导出模型", "docs/index"),
        ("vi", "mặt nạ mất mát", "docs/index"),
        ("vi", "mat na mat mat", "docs/index"),
    ],
)
def test_a_word_of_each_language_is_found(browser, address, language, query, page):
    assert f"/{language}/{page}.html" in found(browser, address, language, query)


@needs_chromium
def test_what_no_page_has_is_not_found(browser, address):
    assert found(browser, address, "zh_CN", "钢琴") == []
    assert found(browser, address, "vi", "đàn") == []


@needs_chromium
def test_the_switcher_leads_to_the_same_page(browser, address):
    browser.open(f"{address}/en/docs/how-it-works/training.html")
    for language in ("vi", "zh_CN", "en"):
        code = language.replace("_", "-")
        link = browser.run(f"document.querySelector('.languages a[lang={code}]').href")
        assert link == f"{address}/{language}/docs/how-it-works/training.html"
        browser.open(link)
        assert browser.text(".languages [aria-current]") == LANGUAGES[language]


def path_of(browser: Browser) -> str:
    """Return the path of the page, or nothing if the browser goes from one page to the next at this moment."""
    try:
        return browser.run("location.pathname")
    except AssertionError as error:
        if "navigated" not in str(error):
            raise
        return ""


@needs_chromium
def test_the_front_page_leads_to_the_reader_s_language(browser, address):
    for accepted, language in (("vi-VN,en", "vi"), ("zh-TW,zh", "zh_CN"), ("de,fr", "en")):
        browser.send("Emulation.setUserAgentOverride", userAgent="a reader's browser", acceptLanguage=accepted)
        browser.send("Page.navigate", url=f"{address}/index.html")
        end = time.monotonic() + 20
        while path_of(browser) != f"/{language}/docs/index.html":
            assert time.monotonic() < end, path_of(browser)
            time.sleep(0.05)


@needs_chromium
def test_no_page_asks_another_host(browser, address):
    browser.requests.clear()
    names = [f"en/{name_of(page)}" for page in PAGES]
    for name in [*names, "vi/docs/index", "zh_CN/docs/index", "en/search"]:
        browser.open(f"{address}/{name}.html")
    assert len(browser.requests) > len(names)
    assert [url for url in browser.requests if not url.startswith((f"{address}/", "data:"))] == []
    assert [problem for problem in browser.problems if "favicon" not in problem] == []
