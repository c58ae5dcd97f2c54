"""The headers of every page that a server of instil sends: own script and style only, no other server, no frame."""

from __future__ import annotations

from typing import Literal


def page_headers(
    *, form_action: Literal["'none'", "'self'"] = "'none'", referrer: str = "no-referrer"
) -> dict[str, str]:
    """Return the headers.

    Args:
        form_action: Whether the page may send forms to its own server.
        referrer: Referrer-Policy.
    """
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        f"base-uri 'none'; form-action {form_action}; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": referrer,
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-cache",
    }
