"""Reads the origins of ``--cors`` as browsers send them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from instil.errors import ServeError

ANY = "*"
_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9._:-]+")


def checked_origins(origins: Sequence[str]) -> tuple[str, ...]:
    """Return origins in the spelling of browsers: small letters, no path, no port that the scheme implies.

    Raises:
        ServeError: If one is no origin, or ``*`` stands beside others.

    Example:
        >>> checked_origins(["HTTP://Localhost:3000/", "https://example.org:443"])
        ('http://localhost:3000', 'https://example.org')
    """
    checked = tuple(dict.fromkeys(ANY if origin == ANY else _checked(origin) for origin in origins))
    if ANY in checked and len(checked) > 1:
        raise ServeError("--cors *: found beside other origins. Expected it alone, or origins only. Leave one out.")
    return checked


def _checked(origin: str) -> str:
    try:
        parts = urlsplit(origin.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError:  # a port that is no number, or half an IPv6 address
        host, port, parts = "", None, urlsplit("")
    has_more = parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None
    if not parts.scheme or not _HOST.fullmatch(host) or has_more:
        raise ServeError(
            f"--cors {origin}: is no origin. Expected a scheme, a host and a port, such as http://localhost:3000, or *. "
            "Copy it from the address of the page, without its path."
        )
    name = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{name}" + ("" if port in (None, _PORTS.get(parts.scheme)) else f":{port}")
