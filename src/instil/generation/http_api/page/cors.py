"""Which web pages of other origins may call the server: none, unless ``--cors`` names them.

Why: without a key, the server answers whoever reaches loopback. A page of any site, open in the user's browser, is
such a caller. So each origin is named exactly, and ``*`` counts only where it is written.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from instil.generation.http_api.problems import Problem

_CLIENT = "X-Stainless-"
"""How the headers begin that OpenAI's JavaScript client adds to each request."""
_CLIENT_HEADERS = tuple(
    _CLIENT + name
    for name in (
        "Arch", "Async", "Custom-Poll-Interval", "Helper-Method", "Lang", "OS", "Package-Version", "Poll-Helper",
        "Retry-Count", "Runtime", "Runtime-Version", "Timeout",
    )
)  # fmt: skip


class Cors(CORSMiddleware):
    """Answers the preflight requests of browsers, and marks answers for the pages that may read them.

    Args:
        app: The application.
        origins: Origins as `origins.checked_origins` returns them.
    """

    def __init__(self, app: Any, *, origins: Sequence[str]) -> None:
        # Why: a browser asks so before a public page reaches loopback; older versions of starlette do not know it.
        names = inspect.signature(CORSMiddleware).parameters
        private: dict[str, Any] = {"allow_private_network": True} if "allow_private_network" in names else {}
        super().__init__(
            app,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", *_CLIENT_HEADERS],
            allow_credentials=False,
            **private,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """Return the answer to a preflight request; a refusal says why, as JSON."""
        answer = super().preflight_response(request_headers)
        if answer.status_code < 400:
            return answer
        origin = request_headers["origin"]
        reason = "its method or a header of it is not allowed"
        if not self.is_allowed_origin(origin):
            reason = f"pages of {origin} may not call this server. Start it with --cors {origin} to allow them"
        headers = {name: value for name, value in answer.headers.items() if name.startswith(("access-", "vary"))}
        refused: Response = JSONResponse(Problem(400, f"preflight: {reason}.").body(), status_code=400, headers=headers)
        return refused
