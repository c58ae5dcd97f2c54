"""The pages in the frame of every page, in the order of the work."""

from __future__ import annotations

NAVIGATION: tuple[tuple[str, str], ...] = (
    ("home", "/"),
    ("data", "/data"),
    ("recipe", "/recipe"),
    ("runs", "/runs"),
    ("chat", "/chat"),
    ("ship", "/ship"),
    ("jobs", "/jobs"),
)
"""Key below ``navigation.`` and path of each page that stands in the navigation: a page is added when it exists.

The order is: home, data, recipe, runs, chat, ship, jobs.
"""
