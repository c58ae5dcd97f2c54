"""Pages from templates: the reader's language, what every page has, and times and sizes as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache, partial
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse

from instil.studio.catalogue import HTML_LANG, LANGUAGES, Language, chosen_language, worded
from instil.studio.navigation import NAVIGATION
from instil.units import byte_size, duration, loss_words

LANGUAGE_COOKIE = "instil-studio-language"
"""Name of the cookie with the chosen language."""


@cache
def environment() -> Environment:
    """Return the templates' environment. All text of data is escaped, and a name that is not there is an error."""
    made = Environment(
        loader=PackageLoader("instil.studio"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"byte_size": byte_size, "duration": duration, "moment": moment, "loss": loss_words}
    return made


def language_of(request: Request) -> Language:
    """Return the language of a request's reader."""
    return chosen_language(request.cookies.get(LANGUAGE_COOKIE), request.headers.get("accept-language", ""))


def page(request: Request, template: str, context: Mapping[str, Any], *, status: int = 200) -> HTMLResponse:
    """Return a page.

    A template has, beside the context: ``t`` (a text by its key), ``language``, ``languages``, ``navigation``, ``here``
    (the path), and ``workspace`` (the folder's name).

    Args:
        request: The request.
        template: Name of a file in ``templates/``.
        context: What the page's view function returned.
        status: HTTP status.
    """
    language = language_of(request)
    text = (
        environment()
        .get_template(template)
        .render(
            **context,
            t=partial(worded, language),
            language=language,
            html_lang=HTML_LANG[language],
            languages=LANGUAGES,
            navigation=NAVIGATION,
            here=request.url.path,
            address=request.url.path + (f"?{request.url.query}" if request.url.query else ""),
            workspace=request.app.state.studio.root,
        )
    )
    return HTMLResponse(text, status_code=status)


def bare_page(language: Language, status: int, **values: object) -> str:
    """Return a page for whom the studio does not know: without style, because style sheets need the token too."""
    return (
        environment()
        .get_template("bare.html.jinja")
        .render(t=partial(worded, language), html_lang=HTML_LANG[language], status=status, values=values)
    )


def moment(when: datetime | None) -> str:
    """Return a time as a page shows it.

    Example:
        >>> moment(datetime(2026, 11, 30, 2, 14, 59)), moment(None)
        ('2026-11-30 02:14', '')
    """
    return "" if when is None else f"{when:%Y-%m-%d %H:%M}"


def back_to(path: str) -> RedirectResponse:
    """Return the redirection after a form: to a page of the studio, and to no other server.

    Example:
        >>> back_to("/jobs").headers["location"], back_to("//elsewhere/x").headers["location"]
        ('/jobs', '/elsewhere/x')
    """
    return RedirectResponse("/" + path.lstrip("/\\"), status_code=303)
