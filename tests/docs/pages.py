"""The pages of the site, as Sphinx reads them."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(path for folder in ("docs", "course") for path in (ROOT / folder).rglob("*.md"))
"""Every page of the site but ARCHITECTURE.md."""


def name_of(page: Path) -> str:
    """Return the name that Sphinx has for a page."""
    return page.relative_to(ROOT).with_suffix("").as_posix()
