"""The choice of a language, kept in a cookie."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Response

from instil.studio.catalogue import Language
from instil.studio.rendering import LANGUAGE_COOKIE, back_to

A_YEAR = 365 * 86_400
router = APIRouter()


@router.post("/language")
def choose(language: Annotated[Language, Form()], back: Annotated[str, Form()] = "/") -> Response:
    """Keep the language, and show the page again."""
    answer = back_to(back)
    answer.set_cookie(LANGUAGE_COOKIE, language, max_age=A_YEAR, samesite="strict", httponly=True)
    return answer
