"""Chromium through playwright, and what every page has to keep."""

from __future__ import annotations

import contextlib
import shutil

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
try:
    from playwright.sync_api import sync_playwright
except ImportError:
    sync_playwright = None
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None or sync_playwright is None,
    reason="chromium or playwright is not installed: pages are not opened. Run: apt install chromium, pip install playwright",
)
ACCESSIBLE = """() => {
  const problems = [], shown = (element) => element.getClientRects().length && getComputedStyle(element).visibility !== "hidden";
  const name = (element) => (element.getAttribute("aria-label") || [...(element.labels || [])].map((label) => label.textContent).join(" ")
    || (element.getAttribute("aria-labelledby") || "").split(" ").map((id) => document.getElementById(id)?.textContent || "").join(" ")
    || element.textContent || element.title || "").trim();
  const say = (problem, element) => problems.push(`${problem}: ${element.outerHTML.slice(0, 120)}`);
  for (const element of document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, nav, [role=region], [role=img]"))
    if (shown(element) && !name(element)) say("no name", element);
  for (const element of document.querySelectorAll("input:not([type=hidden]), select, textarea"))
    if (!element.labels?.length && !element.getAttribute("aria-label") && !element.getAttribute("aria-labelledby")) say("no label", element);
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  ids.filter((id, number) => ids.indexOf(id) !== number).forEach((id) => problems.push(`id twice: ${id}`));
  for (const element of document.querySelectorAll("[aria-labelledby], [aria-describedby], [aria-controls]"))
    for (const attribute of ["aria-labelledby", "aria-describedby", "aria-controls"])
      (element.getAttribute(attribute) || "").split(/\\s+/).filter(Boolean).forEach((id) => { if (!document.getElementById(id)) say(`${attribute} names nothing`, element); });
  if (document.querySelectorAll("h1").length !== 1) problems.push("not one h1");
  if (document.querySelectorAll("main").length !== 1) problems.push("not one main");
  if (!document.documentElement.lang) problems.push("no language");
  if (!document.title) problems.push("no title");
  let level = 1;
  for (const heading of document.querySelectorAll("h1, h2, h3, h4")) { const own = Number(heading.tagName[1]); if (own > level + 1) say("a level of headings is left out", heading); level = own; }
  for (const element of document.querySelectorAll("img:not([alt]), [tabindex]:not([tabindex='0']):not([tabindex='-1'])")) say("alt or tabindex", element);
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const pixel = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = (rgb) => rgb.slice(0, 3).map((part) => part / 255).map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)).reduce((sum, part, number) => sum + part * [0.2126, 0.7152, 0.0722][number], 0);
  const ground = (element) => { for (let at = element; at; at = at.parentElement) { const found = pixel(getComputedStyle(at).backgroundColor); if (found[3] === 255) return found; } return [255, 255, 255, 255]; };
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!text || !shown(element) || element.closest(":disabled, svg, .unseen, .skip, .token, .state-off, [aria-pressed=false]")) continue;
    const [one, two] = [light(pixel(getComputedStyle(element).color)), light(ground(element))].sort((a, b) => b - a);
    if ((one + 0.05) / (two + 0.05) < 4.5) say(`contrast ${((one + 0.05) / (two + 0.05)).toFixed(2)}`, element);
  }
  return problems;
}"""
"""Names, labels, ids, headings, and the contrast of text (WCAG 2.2, 1.4.3), looked at in the page itself."""


def assert_accessible(page):
    """Check the page as it is: names for screen readers, one h1, headings without gaps, contrast of 4.5."""
    assert page.evaluate(ACCESSIBLE) == []


def assert_fits(page):
    """Check that nothing but what scrolls on its own is wider than the window, at both widths."""
    for width in (400, 1400):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0, width


@contextlib.contextmanager
def browser_context(**options):
    """Open chromium with a fresh profile."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        try:
            context = browser.new_context(viewport={"width": 1400, "height": 900}, locale="en-GB", **options)
            context.set_default_timeout(180_000)  # a busy machine: no wait decides a test
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
