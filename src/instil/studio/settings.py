"""Where the studio listens, and who may open it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from instil.errors import ServeError
from instil.generation.http_api.addresses import check_port, is_loopback


@dataclass(frozen=True, slots=True, kw_only=True)
class StudioSettings:
    """How the studio is opened.

    Attributes:
        host: Address to listen on; any but loopback needs a key.
        port: Port to listen on; 0 takes a free one.
        key: Key that opens the studio, instead of one made at each start; the environment's INSTIL_STUDIO_KEY unless
            given.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    key: str | None = None


STUDIO = StudioSettings()
KEY_VARIABLE = "INSTIL_STUDIO_KEY"
SHORTEST_KEY = 16
"""Characters of a key that cannot be guessed by trying."""


def check_settings(settings: StudioSettings) -> StudioSettings:
    """Check that only this machine can reach a studio without a key.

    Returns:
        The settings, with the environment's key if they have none.

    Raises:
        ServeError: If host, port or key cannot be used.

    Example:
        >>> check_settings(StudioSettings(host="0.0.0.0"))
        Traceback (most recent call last):
        instil.errors.ServeError: host 0.0.0.0: others can reach it. ...
    """
    settings = replace(settings, key=settings.key or os.environ.get(KEY_VARIABLE) or None)
    check_port(settings.port)
    if settings.key is None and not is_loopback(settings.host):
        raise ServeError(
            f"host {settings.host}: others can reach it. Without a key only 127.0.0.1, localhost and ::1 are "
            "allowed. Set --key or INSTIL_STUDIO_KEY."
        )
    if settings.key is not None and len(settings.key) < SHORTEST_KEY:
        raise ServeError(
            f"--key: found {len(settings.key)} characters. Expected at least {SHORTEST_KEY}, because whoever guesses it "
            "can start programs here. Choose a longer one."
        )
    return settings


def environment_without_key() -> dict[str, str]:
    """Return the variables of this process without the studio's key, which is not for the processes that it starts."""
    return {name: value for name, value in os.environ.items() if name != KEY_VARIABLE}
