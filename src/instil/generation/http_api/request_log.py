"""Prints a line for each request: method, path, status, tokens and seconds. Never a text, never a key.

Why: the query of an address is left out, because some clients put their key there.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import MutableMapping, Sequence
from typing import Any

from instil.generation.http_api.writing import Writing, usage
from instil.views.visible import shortened

_ANSWERS = "instil.answers"
_LONGEST_PATH, _LONGEST_WORD = 120, 60


def log_answers(scope: MutableMapping[str, Any], answers: Sequence[Writing]) -> None:
    """Let the line of a request count the tokens of its answers."""
    scope.get(_ANSWERS, []).extend(answers)


class RequestLog:
    """Prints a line on standard error when a request has ended, also if its client left before."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, and print its line when it has ended."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answers: list[Writing] = []
        scope[_ANSWERS] = answers
        start, status, is_complete, has_left = time.monotonic(), 0, False, False

        async def watched_send(message: Any) -> None:
            nonlocal status, is_complete
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)
            is_complete = message["type"] == "http.response.body" and not message.get("more_body", False)

        async def watched_receive() -> Any:
            nonlocal has_left
            message = await receive()
            has_left = has_left or (message["type"] == "http.disconnect" and not is_complete)
            return message

        try:
            await self._app(scope, watched_receive, watched_send)
        finally:
            end = "" if is_complete and not has_left else "client left" if has_left or is_complete else "not finished"
            _print(request_line(scope, status, answers, seconds=time.monotonic() - start, end=end))


def request_line(
    scope: MutableMapping[str, Any], status: int, answers: Sequence[Writing], *, seconds: float, end: str = ""
) -> str:
    """Return the line of a request.

    Args:
        scope: The request, as ASGI describes it.
        status: Status of the answer; 0 if none was sent.
        answers: Its answers, whose tokens are counted.
        seconds: How long it took.
        end: How it ended, if not with its last byte.

    Example:
        >>> request_line({"method": "GET", "path": "/a", "headers": []}, 200, [], seconds=0.125)[9:]
        'GET /a 200 0.12 s'
    """
    # Why: the raw path has its control characters as %0A, so that no address can print a line of its own.
    path = scope.get("raw_path", b"").decode("latin-1").partition("?")[0] or scope["path"]
    words = [time.strftime("%H:%M:%S"), shortened(scope["method"], _LONGEST_WORD), shortened(path, _LONGEST_PATH)]
    words.append(str(status) if status else "-")
    if answers:
        counts = usage(answers)
        words.append(f"{counts['prompt_tokens']}+{counts['completion_tokens']} tokens")
    line = " ".join([*words, f"{seconds:.2f} s"])
    origin = dict(scope["headers"]).get(b"origin", b"").decode("latin-1")
    if scope["method"] == "OPTIONS" and status >= 400 and origin:
        end = f"pages of {shortened(origin, _LONGEST_WORD)} may not call this server; --cors allows them"
    return f"{line}, {end}" if end else line


def _print(line: str) -> None:
    # A closed or full standard error must not fail a request.
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)
