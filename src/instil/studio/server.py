"""Starts the studio: opens the workspace, binds the port, prints the address."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from socket import socket
from typing import Any

from instil.errors import MissingPackageError, ServeError
from instil.generation.http_api.addresses import listen, url_of
from instil.studio.settings import StudioSettings
from instil.studio.workspace import open_workspace

MOST_CONNECTIONS = 256
TRANSFER_SECONDS = 3_600.0
"""Longest time for a request to arrive: a large file may be on its way."""


def make_server(root: Path, settings: StudioSettings, *, token: str, port: int) -> Any:
    """Return a uvicorn server that is not running yet.

    Raises:
        MissingPackageError: If a package of the extra ``studio`` is not installed.
    """
    try:
        import python_multipart  # noqa: F401
        import uvicorn

        # Why: all of these need FastAPI or uvicorn, which are optional.
        from instil.generation.http_api.connections import bounded_protocol
        from instil.generation.http_api.ending_server import EndingServer
        from instil.studio.access import Access, Doorkeeper, session_secret
        from instil.studio.app import create_app
        from instil.studio.jobs.queue import Queue
        from instil.studio.pages.later import LaterPages
        from instil.studio.studio import Studio
        from instil.studio.workers.commands import Commands
        from instil.studio.workers.process import Workers
    except ImportError as error:
        raise MissingPackageError(error.name or "fastapi", needed_for="studio", extra="studio") from None
    app = create_app(Studio(root, Queue(root), Workers(root), Commands(root)))
    door = Doorkeeper(token, session_secret(root, key=settings.key), settings.host, port)
    config = uvicorn.Config(
        Access(LaterPages(app), door=door, ending=app.state.ending),
        http=bounded_protocol(max_connections=MOST_CONNECTIONS, max_transfer_seconds=TRANSFER_SECONDS),
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,  # its lines would hold the token
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=5,
    )
    return EndingServer(config, app=app)


def open_studio(folder: Path, settings: StudioSettings) -> None:
    """Serve until Ctrl-C or SIGTERM; settings must have passed `check_settings`.

    Raises:
        ServeError: If the studio cannot start.
    """
    root = open_workspace(folder)
    listener: socket = listen(settings.host, settings.port)
    try:
        token = settings.key or secrets.token_urlsafe(32)
        server = make_server(root, settings, token=token, port=listener.getsockname()[1])
        # A key is not printed: the terminal may be a log that others read.
        shown = "KEY" if settings.key else token
        print(f"studio of {root}: {url_of(listener)}/?token={shown} (Ctrl-C stops it; jobs go on)", flush=True)
        server.run(sockets=[listener])
        if not server.started and not server.is_signalled:
            raise ServeError("studio: the server could not start. Its log above has the reason. Fix it, and try again.")
        print("the studio has ended", file=sys.stderr)
    finally:
        listener.close()
