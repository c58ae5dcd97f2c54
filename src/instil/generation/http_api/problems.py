"""Errors in the form that OpenAI's clients understand."""

from __future__ import annotations

from typing import Any


class Problem(Exception):
    """A request that cannot be answered: status, message, and the parameter at fault."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    def body(self) -> dict[str, Any]:
        """Return the response's body.

        Example:
            >>> Problem(400, "no", param="n").body()["error"]["type"]
            'invalid_request_error'
        """
        kind = {401: "authentication_error", 429: "rate_limit_error"}.get(
            self.status, "invalid_request_error" if self.status < 500 else "server_error"
        )
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}
