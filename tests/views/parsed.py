"""HTML of an output as a parser sees it: elements, attributes, and the text without style."""

from __future__ import annotations

from html.parser import HTMLParser

TAGS = {
    "div",
    "style",
    "b",
    "i",
    "span",
    "table",
    "tr",
    "th",
    "td",
    "svg",
    "title",
    "g",
    "path",
    "line",
    "circle",
    "text",
}
ATTRIBUTES = {
    "class", "title", "dir", "style", "viewbox", "role", "aria-label", "d", "fill", "stroke", "stroke-width", "opacity",
    "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "text-anchor", "font-size", "stroke-linejoin", "font-family",
}  # fmt: skip


class Parsed(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []  # every element is closed

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.text += data


def text_of(html: str) -> str:
    """Return what a person reads; the elements have passed `assert_harmless`."""
    return assert_harmless(html).text


def assert_harmless(html: str) -> Parsed:
    """Check that nothing can run or be loaded: only known elements with known attributes, no address."""
    parsed = Parsed(html)
    assert {tag for tag, _ in parsed.elements} <= TAGS
    assert {name for _, attributes in parsed.elements for name in attributes} <= ATTRIBUTES
    for _, attributes in parsed.elements:
        assert "url(" not in (attributes.get("style") or "")
    html.encode("utf-8")
    return parsed
