"""The application: its pages, its own files, its errors, and the clock of the queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib import resources

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from instil.errors import InstilError
from instil.generation.http_api.ending import Ending
from instil.studio.chat.engines import stop_idle
from instil.studio.pages.later import FIRST, router_of
from instil.studio.problems import PageProblem
from instil.studio.rendering import page
from instil.studio.studio import Studio
from instil.views.html import script, style_sheet

TICK_SECONDS = 0.5
"""How often the queue looks whether a job has ended or can start."""
SCRIPTS = ("swap.js", "stream.js", "chart.js", "data.js", "recipe.js", "run.js", "chat.js", "ship.js")
"""Own scripts, in one file; every one does nothing on a page that does not use it."""
STYLES = (
    "studio.css",
    "data.css",
    "recipe.css",
    "run.css",
    "chat.css",
    "ship.css",
)


def create_app(studio: Studio) -> FastAPI:
    """Return the application with its first pages; `server` puts the checks of access and the other pages around it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        clock = asyncio.create_task(_keep_queue(studio, ending))
        yield
        ending.begin()
        await clock

    ending = Ending()
    app = FastAPI(title="instil studio", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.studio, app.state.ending = studio, ending
    for name in FIRST:
        app.include_router(router_of(name))
    files = {
        "/static/studio.css": (
            "".join(map(style_sheet, ("page.css", "tokens.css", "examples.css"))) + "".join(map(_own, STYLES)),
            "text/css",
        ),
        "/static/studio.js": (
            script("tokens.js") + script("examples.js") + "".join(map(_own, SCRIPTS)),
            "text/javascript",
        ),
    }
    for path, (content, kind) in files.items():
        app.add_api_route(path, partial(_file, content, kind), methods=["GET", "HEAD"], response_class=Response)
    # Browsers ask for it on their own. Pages have their icon inside.
    app.add_api_route("/favicon.ico", _no_icon, methods=["GET"], response_class=Response)
    app.add_exception_handler(PageProblem, _problem)
    app.add_exception_handler(InstilError, _refused)
    app.add_exception_handler(HTTPException, _not_found)
    app.add_exception_handler(RequestValidationError, _not_understood)
    app.add_exception_handler(Exception, _failed)
    return app


async def _keep_queue(studio: Studio, ending: Ending) -> None:
    """Look after the queue until the studio ends; then end its helper processes, which requests may wait for."""
    try:
        while not ending.begun:
            await asyncio.to_thread(studio.queue.tick)
            await asyncio.to_thread(stop_idle, studio)
            await ending.wait(TICK_SECONDS)
    finally:
        await asyncio.to_thread(studio.workers.close)
        await asyncio.to_thread(studio.commands.close)


def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, PageProblem)
    context = {"status": error.status, "key": error.key, "values": error.values, "text": ""}
    return page(request, "problem.html.jinja", context, status=error.status)


def _refused(request: Request, error: Exception) -> Response:
    """Answer an error that names place and remedy; its text is English everywhere, as on the command line."""
    context = {"status": 422, "key": "problems.refused", "values": {}, "text": str(error)}
    return page(request, "problem.html.jinja", context, status=422)


def _not_found(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    key = {404: "problems.no_page", 405: "problems.no_method"}.get(error.status_code, "problems.not_understood")
    return _problem(request, PageProblem(error.status_code, key))


def _not_understood(request: Request, _: Exception) -> Response:
    return _problem(request, PageProblem(422, "problems.not_understood"))


def _failed(request: Request, error: Exception) -> Response:
    return _problem(request, PageProblem(500, "problems.internal", kind=type(error).__name__))


def _file(content: str, kind: str) -> Response:
    return Response(content, media_type=kind)


def _no_icon() -> Response:
    return Response(status_code=204)


def _own(name: str) -> str:
    return resources.files("instil.studio").joinpath("static", name).read_text(encoding="utf-8")
