"""The pages that the first answer does without: each is imported by the first request for it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from fastapi import APIRouter, FastAPI

FIRST = ("home", "jobs", "language")
"""Pages that are imported at the start."""
LATER: Mapping[str, tuple[str, ...]] = {
    "runs": ("run", "runs"),
    "data": ("data",),
    "recipe": ("recipe",),
    "chat": ("chat",),
    "ship": ("ship",),
}
"""Pages that are imported later, by the first part of the address of all their routes."""


def router_of(name: str) -> APIRouter:
    """Return the routes of a page, imported if need be."""
    router: APIRouter = import_module(f"instil.studio.pages.{name}").router
    return router


class LaterPages:
    """The application with all of its pages.

    Why: importing them, with the schema of the recipe, takes half of a start, and whoever opens the studio sees the overview
    first.

    Args:
        app: The application with the pages of `FIRST`.
    """

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._added: dict[str, asyncio.Task[None]] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on; one for a page that is not there yet waits for it."""
        part = scope.get("path", "").lstrip("/").partition("/")[0]
        if part in LATER:
            if part not in self._added:
                self._added[part] = asyncio.create_task(self._add(part))
            await asyncio.shield(self._added[part])  # others wait for it too
        await self._app(scope, receive, send)

    async def _add(self, part: str) -> None:
        for name in LATER[part]:
            self._app.include_router(await asyncio.to_thread(router_of, name))
