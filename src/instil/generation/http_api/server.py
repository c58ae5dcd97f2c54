"""Starts the server: checks the address, binds the port, prints the URL."""

from __future__ import annotations

import ipaddress
import os
import socket
from dataclasses import replace
from typing import Any

from instil.errors import MissingPackageError, ServeError
from instil.generation.engine import Engine
from instil.generation.http_api.connections import bounded_protocol
from instil.generation.http_api.settings import ServeSettings


def check_address(settings: ServeSettings) -> ServeSettings:
    """Check that only this machine can reach a server without an API key.

    Returns:
        The settings, with the environment's key if they have none.

    Raises:
        ServeError: If host or port cannot be used.

    Example:
        >>> check_address(ServeSettings(host="0.0.0.0"))
        Traceback (most recent call last):
        instil.errors.ServeError: host 0.0.0.0: others can reach it. ...
    """
    settings = replace(settings, api_key=settings.api_key or os.environ.get("INSTIL_API_KEY") or None)
    if not 0 <= settings.port <= 65535:
        raise ServeError(f"port {settings.port}: no such port. Allowed is 0 to 65535. Choose another one.")
    for name in ("max_new_tokens", "max_body_mb", "max_seconds", "max_requests", "max_connections",
                 "max_transfer_seconds", "cache_tokens"):  # fmt: skip
        if not getattr(settings, name) > 0:
            option = f"--{name.replace('_', '-')}"
            raise ServeError(f"{option} {getattr(settings, name)}: nothing could be served. Expected more than 0.")
    if settings.api_key is None and not _is_loopback(settings.host):
        raise ServeError(
            f"host {settings.host}: others can reach it. Without an API key only 127.0.0.1, localhost and ::1 are "
            "allowed. Set --api-key or INSTIL_API_KEY."
        )
    return settings


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(settings: ServeSettings) -> socket.socket:
    """Bind the port.

    Raises:
        ServeError: If it is taken or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise ServeError(
            f"{settings.host}:{settings.port}: cannot listen there ({error.strerror or error}). "
            "Choose another --port or --host."
        ) from None
    return listener


def make_server(engine: Engine, settings: ServeSettings) -> Any:
    """Return a uvicorn server that is not running yet.

    Raises:
        MissingPackageError: If FastAPI or uvicorn is not installed.
    """
    try:
        import uvicorn

        # Why: the app needs FastAPI, which is optional.
        from instil.generation.http_api.app import create_app
    except ImportError as error:
        raise MissingPackageError(error.name or "fastapi", needed_for="serve", extra="serve") from None
    config = uvicorn.Config(
        create_app(engine, settings),
        http=bounded_protocol(
            max_connections=settings.max_connections, max_transfer_seconds=settings.max_transfer_seconds
        ),
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=10,
        h11_max_incomplete_event_size=64 * 1024,
    )
    return uvicorn.Server(config)


def serve(engine: Engine, settings: ServeSettings) -> None:
    """Serve until interrupted; settings must have passed `check_address`."""
    listener = listen(settings)
    try:
        server = make_server(engine, settings)
        host, port = listener.getsockname()[:2]
        name = settings.served_name or engine.name
        print(
            f"serving {name} at http://{f'[{host}]' if ':' in host else host}:{port}/v1 (Ctrl-C stops it)", flush=True
        )
        server.run(sockets=[listener])
    finally:
        listener.close()
