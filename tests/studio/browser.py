"""Chromium through playwright, and what every page has to keep."""

from __future__ import annotations

import contextlib
import shutil

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
try:
    from playwright.sync_api import expect, sync_playwright
except ImportError:
    sync_playwright = None
try:
    from axe_playwright_python.base import AXE_SCRIPT
except ImportError:
    AXE_SCRIPT = None
NO_CHROMIUM = pytest.mark.skipif(
    CHROMIUM is None or sync_playwright is None,
    reason="chromium or playwright is not installed: pages are not opened. Run: apt install chromium, pip install playwright",
)


def needs_chromium(test):
    """Mark a test that starts Chromium, which takes over a second: it skips where there is none."""
    return pytest.mark.slow(NO_CHROMIUM(test))


AXE = """async () => {
  const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
  const { violations } = await axe.run(document, { runOnly: tags, resultTypes: ["violations"], elementRef: false });
  return violations.flatMap(({ id, impact, nodes }) => nodes.map(({ html, failureSummary }) => `${impact} ${id}: ${html.slice(0, 160)} ${failureSummary}`));
}"""
NAMED = """() => {
  const problems = [], ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  ids.filter((id, number) => ids.indexOf(id) !== number).forEach((id) => problems.push(`id twice: ${id}`));
  for (const attribute of ["aria-labelledby", "aria-describedby", "aria-controls"])
    for (const element of document.querySelectorAll(`[${attribute}]`))
      element.getAttribute(attribute).split(/\\s+/).filter(Boolean).forEach((id) => { if (!document.getElementById(id)) problems.push(`${attribute} names nothing: ${element.outerHTML.slice(0, 120)}`); });
  return problems;
}"""
"""What axe-core leaves to its reader: an id that is there twice, and one that is named and not there."""
WIDTHS, SCHEMES = (1400, 400), ("light", "dark")


def assert_accessible(page):
    """Check the page as it is with axe-core: light and dark, wide and narrow; and that it fits both widths.

    Axe's findings of every impact count. A page may change meanwhile; each check is of one moment.
    """
    if AXE_SCRIPT is None:
        pytest.skip(
            "axe-playwright-python is not installed: pages are not checked. Run: pip install axe-playwright-python"
        )
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)  # over the debugger's connection, which the page's policy does not concern
    found = page.evaluate(NAMED)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            found += [f"{width} {scheme}: {problem}" for problem in page.evaluate(AXE)]
    page.emulate_media(color_scheme="light")
    assert_fits(page)
    assert found == [], "\n".join(found)


def assert_fits(page):
    """Check that nothing but what scrolls on its own is wider than the window, at both widths."""
    for width in (400, 1400):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0, width


MOST_MILLISECONDS = 180_000
"""How long a page may take on a busy machine: no wait decides a test."""
if sync_playwright is not None:
    expect.set_options(timeout=MOST_MILLISECONDS)


@contextlib.contextmanager
def browser_context(**options):
    """Open chromium with a fresh profile."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        try:
            context = browser.new_context(viewport={"width": 1400, "height": 900}, locale="en-GB", **options)
            context.set_default_timeout(MOST_MILLISECONDS)
            yield context
        finally:
            browser.close()


def watch(page, url, *, allowed=()):
    """Keep what a page must not do; return the list, which stays empty.

    Args:
        page: A page of playwright.
        url: The studio's address; requests to others are problems.
        allowed: Parts of messages that a test causes on purpose, such as ``status of 404``.
    """
    problems = []

    def keep(kind, text):
        if not any(part in text for part in allowed):
            problems.append(f"{kind}: {text}")

    page.on("console", lambda message: keep("console", message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: keep("error", str(error)))
    page.on(
        "request", lambda request: keep("outside", request.url) if not request.url.startswith((url, "data:")) else None
    )
    page.add_init_script(
        "addEventListener('securitypolicyviolation', (event) => console.error('policy: ' + event.violatedDirective + ' ' + event.blockedURI))"
    )
    return problems
