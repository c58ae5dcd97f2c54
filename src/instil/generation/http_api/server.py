"""Starts the server: checks the address, binds the port, prints the URL."""

from __future__ import annotations

import math
import os
import socket
import sys
from dataclasses import replace
from typing import Any

from instil.errors import MissingPackageError, ServeError
from instil.generation.engine import Engine
from instil.generation.http_api.addresses import EVERY_ADDRESS, check_port, is_loopback, listen, url_of
from instil.generation.http_api.connections import bounded_protocol
from instil.generation.http_api.ending import GRACE_SECONDS
from instil.generation.http_api.origins import ANY, checked_origins
from instil.generation.http_api.settings import ServeSettings


def check_address(settings: ServeSettings) -> ServeSettings:
    """Check that only this machine can reach a server without an API key.

    Returns:
        The settings, with the environment's key if they have none, and origins as browsers send them.

    Raises:
        ServeError: If host, port or an origin cannot be used.

    Example:
        >>> check_address(ServeSettings(host="0.0.0.0"))
        Traceback (most recent call last):
        instil.errors.ServeError: host 0.0.0.0: others can reach it. ...
    """
    key = settings.api_key or os.environ.get("INSTIL_API_KEY") or None
    settings = replace(settings, api_key=key, cors=checked_origins(settings.cors))
    check_port(settings.port)
    for name in ("max_new_tokens", "max_body_mb", "max_seconds", "max_requests", "max_connections",
                 "max_transfer_seconds", "cache_tokens"):  # fmt: skip
        if not getattr(settings, name) > 0:
            option = f"--{name.replace('_', '-')}"
            raise ServeError(f"{option} {getattr(settings, name)}: nothing could be served. Expected more than 0.")
    if not 0 <= settings.prefix_mb < math.inf:
        raise ServeError(f"--prefix-mb {settings.prefix_mb}: no such size. Expected 0 or more. Set 0 to keep no text.")
    if settings.api_key is None and not is_loopback(settings.host):
        raise ServeError(
            f"host {settings.host}: others can reach it. Without an API key only 127.0.0.1, localhost and ::1 are "
            "allowed. Set --api-key or INSTIL_API_KEY."
        )
    return settings


def make_server(engine: Engine, settings: ServeSettings) -> Any:
    """Return a uvicorn server that is not running yet.

    Raises:
        MissingPackageError: If FastAPI or uvicorn is not installed.
    """
    try:
        import uvicorn

        # Why: all of these need FastAPI or uvicorn, which are optional.
        from instil.generation.http_api.app import create_app
        from instil.generation.http_api.ending_server import EndingServer
        from instil.generation.http_api.page.cors import Cors
        from instil.generation.http_api.request_log import RequestLog
    except ImportError as error:
        raise MissingPackageError(error.name or "fastapi", needed_for="serve", extra="serve") from None
    app = create_app(engine, settings)
    # Why around the application: these also see the answer to an internal error, which no inner layer does.
    whole: Any = Cors(app, origins=settings.cors) if settings.cors else app
    config = uvicorn.Config(
        whole if settings.quiet else RequestLog(whole),
        http=bounded_protocol(
            max_connections=settings.max_connections, max_transfer_seconds=settings.max_transfer_seconds
        ),
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(GRACE_SECONDS) + 3,
        h11_max_incomplete_event_size=64 * 1024,
    )
    return EndingServer(config, app=app)


def serve(engine: Engine, settings: ServeSettings) -> None:
    """Serve until Ctrl-C or SIGTERM; settings must have passed `check_address`.

    Raises:
        ServeError: If the server cannot start.
    """
    listener = listen(settings.host, settings.port)
    try:
        server = make_server(engine, settings)
        lines = _banner(settings.served_name or engine.name, settings, listener) + _prepared_for_cpu(engine)
        print("\n".join(lines), flush=True)
        server.run(sockets=[listener])
        if not server.started and not server.is_signalled:
            raise ServeError("serve: the server could not start. Its log above has the reason. Fix it, and try again.")
        print("the server has ended", file=sys.stderr)
    finally:
        listener.close()


def _prepared_for_cpu(engine: Engine) -> list[str]:
    """Compile the plain steps of a model on a CPU, so that no client waits for it.

    Returns:
        If it has none, the line that says why transformers' forward answers.
    """
    if next(engine.model.parameters()).device.type != "cpu":
        return []
    if (steps := engine.steps) is not None:
        steps.compile()
        return []
    return [f"answered by transformers' forward, not by the faster plain steps: {engine.why_not_plain}"]


def _banner(name: str, settings: ServeSettings, listener: socket.socket) -> list[str]:
    """Return the lines that a person sees when the server starts: its address, and who else may call it."""
    host, port = listener.getsockname()[:2]
    url = url_of(listener)
    lines = [f"serving {name} at {url}/v1 (Ctrl-C stops it)", f"chat page: {url}/"]
    if host in EVERY_ADDRESS:
        lines.append(
            f"{host}: every address of this machine. Others use its name: http://{socket.gethostname()}:{port}/"
        )
    if settings.cors == (ANY,):
        who = "any web page that this browser opens" if settings.api_key is None else "any web page that has the key"
        lines.append(f"--cors *: {who} may call it")
    elif settings.cors:
        lines.append(f"web pages of {', '.join(settings.cors)} may call it")
    return lines
