"""Serves the chat page: its document, its style and its script, with a policy that allows nothing else.

Why: the page shows what a model writes. The policy lets the browser run this script only and call this server only.
So no text could load anything, even if it became markup.
"""

from __future__ import annotations

from functools import partial
from importlib import resources

from fastapi import FastAPI, Response

from instil.generation.http_api.page.policy import page_headers
from instil.views.html import script, style_sheet

_HEADERS = page_headers()
_SCRIPTS = ("stream.js", "token_pane.js", "chat.js")
_ICON = "/favicon.ico"
OPEN_PATHS = ("/", "/page.css", "/page.js", _ICON)
"""What a browser may load without the key. None of it says anything about the model."""


def add_page(app: FastAPI) -> None:
    """Add the routes of the chat page."""
    parts = {
        "/": (_own("chat.html"), "text/html"),
        "/page.css": (style_sheet("page.css") + style_sheet("tokens.css") + _own("chat.css"), "text/css"),
        "/page.js": (script("tokens.js") + "".join(map(_own, _SCRIPTS)), "text/javascript"),
    }
    for path, (content, media_type) in parts.items():
        answer = partial(_file, content, media_type)
        app.add_api_route(path, answer, methods=["GET", "HEAD"], response_class=Response)
    # Browsers ask for it on their own. The page has its icon inside.
    app.add_api_route(_ICON, _no_icon, methods=["GET", "HEAD"], response_class=Response)


def _file(content: str, media_type: str) -> Response:
    return Response(content, media_type=media_type, headers=_HEADERS)


def _no_icon() -> Response:
    return Response(status_code=204, headers=_HEADERS)


def _own(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
