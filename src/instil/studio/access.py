"""Who may open the studio: the checks of every request, before any page sees it.

In this order: Host (421), Origin of what changes something (403), token (401, static files too). The first address has
the token in it; it is moved into a cookie, and the browser is sent to the address without it.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from instil.generation.http_api.addresses import EVERY_ADDRESS, is_loopback, name_in
from instil.generation.http_api.ending import Ending
from instil.generation.http_api.page.policy import page_headers
from instil.studio.catalogue import chosen_language
from instil.studio.kept_secret import kept_secret
from instil.studio.rendering import LANGUAGE_COOKIE, bare_page

TOKEN = "token"
"""Name of the parameter of the first address."""
LONGEST_SECONDS = 86_400.0
"""A day: an upload or a stream may take long; the browser opens a stream again."""
HEADERS = page_headers(form_action="'self'", referrer="same-origin")
"""Headers of every answer.

Why ``same-origin`` as the referrer: with ``no-referrer`` browsers send forms with ``Origin: null``, which is refused. The
other sites learn as little from both.
"""
POLICY = "Content-Security-Policy"
"""The one header that a route may set itself."""


@dataclass(frozen=True, slots=True)
class Doorkeeper:
    """What decides who enters.

    Attributes:
        token: The secret of the first address: made at each start, or the user's key.
        session: The secret in the cookie, which a restart keeps.
        host: The address that the studio listens on.
        port: Its port; cookies of one host are shared by all ports.
    """

    token: str
    session: str
    host: str
    port: int

    @property
    def cookie(self) -> str:
        """Name of the cookie."""
        return f"instil-studio-{self.port}"

    def knows_host(self, host: str) -> bool:
        """Return whether a Host header is a name of this studio.

        Why: a page of another site can give its own name this machine's address, and then counts as the same site.
        """
        name = name_in(host).lower()
        if is_loopback(name) or name == self.host.lower():
            return True
        if self.host not in EVERY_ADDRESS:
            return False
        own = socket.gethostname().lower()
        return name in (own, f"{own.partition('.')[0]}.local") or _is_address(name)

    def is_token(self, text: str) -> bool:
        """Return whether a text is the token."""
        return hmac.compare_digest(text.encode(), self.token.encode())

    def is_session(self, text: str) -> bool:
        """Return whether a text is the secret of the cookie."""
        return hmac.compare_digest(text.encode(), self.session.encode())


def session_secret(root: Path, *, key: str | None) -> str:
    """Return the secret of the cookies of a workspace, made at the first start and kept, so that open tabs stay open.

    Args:
        root: The workspace.
        key: The user's key: another key closes the tabs that were opened with the one before.
    """
    return hmac.new(kept_secret(root, "session").encode(), (key or "").encode(), "sha256").hexdigest()


class Access:
    """Checks each request, adds the headers to each answer, and ends requests with the server.

    Args:
        app: The application.
        door: What decides who enters.
        ending: The limits of the requests in progress.
    """

    def __init__(self, app: Any, *, door: Doorkeeper, ending: Ending) -> None:
        self._app, self._door, self._ending = app, door, ending

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                own = headers.get(POLICY)  # a page that others wrote is in a sandbox, which is stricter
                headers.update(HEADERS)
                if own is not None:
                    headers[POLICY] = own
            await send(message)

        answer = self._answer(Request(scope))
        if answer is not None:
            await answer(scope, receive, send_with_headers)
            return
        try:
            async with self._ending.limited(LONGEST_SECONDS):
                await self._app(scope, receive, send_with_headers)
        except TimeoutError:
            return  # the server ends, and so does the connection

    def _answer(self, request: Request) -> Response | None:
        """Return the answer to a request that does not reach a page; None if it may."""
        language = chosen_language(request.cookies.get(LANGUAGE_COOKIE), request.headers.get("accept-language", ""))
        host = request.headers.get("host", "")
        if not self._door.knows_host(host):
            return HTMLResponse(bare_page(language, 421, host=host), status_code=421)
        changes = request.method not in ("GET", "HEAD")
        if changes and not _is_own_origin(request.headers, host):
            return HTMLResponse(bare_page(language, 403), status_code=403)
        sent = request.query_params.get(TOKEN)
        if sent is not None and not changes and self._door.is_token(sent):
            return self._entered(request)
        if self._door.is_session(request.cookies.get(self._door.cookie, "")):
            return None
        return HTMLResponse(bare_page(language, 401), status_code=401)

    def _entered(self, request: Request) -> Response:
        """Return the redirection to the same address without the token, with the cookie."""
        rest = urlencode([pair for pair in parse_qsl(request.url.query) if pair[0] != TOKEN])
        # Why one slash: an address that begins with two names another host.
        path = "/" + request.url.path.lstrip("/\\")
        answer = RedirectResponse(f"{path}?{rest}" if rest else path, status_code=303)
        answer.set_cookie(
            self._door.cookie,
            self._door.session,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
            path="/",
        )
        return answer


def _is_own_origin(headers: Headers, host: str) -> bool:
    """Return whether a request comes from a page of the studio; browsers send the origin with all that changes something."""
    parts = urlsplit(headers.get("origin", ""))
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
