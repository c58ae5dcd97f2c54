"""Where a server listens: addresses that only this machine reaches, the port that is bound, the URL that is shown.

Why here: the API and the studio are two servers that need the same. This module imports no engine and no web framework.
"""

from __future__ import annotations

import ipaddress
import socket

from instil.errors import ServeError

EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""The addresses that stand for every address of a machine, each with the one by which it calls itself."""


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine's loopback: ``localhost``, or an address that no name server can give away.

    Example:
        >>> is_loopback("localhost"), is_loopback("127.0.0.9"), is_loopback("::1"), is_loopback("127.0.0.1.example")
        (True, True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def name_in(host: str) -> str:
    """Return the name or address in a Host header, without port and brackets.

    Example:
        >>> name_in("localhost:8000"), name_in("[::1]:8000"), name_in("[::1]"), name_in("")
        ('localhost', '::1', '::1', '')
    """
    return host.rsplit(":", 1)[0].strip("[]") if not host.endswith("]") else host.strip("[]")


def check_port(port: int) -> None:
    """Check that there is such a port.

    Raises:
        ServeError: If not.
    """
    if not 0 <= port <= 65535:
        raise ServeError(f"port {port}: no such port. Allowed is 0 to 65535. Choose another one.")


def listen(host: str, port: int) -> socket.socket:
    """Bind a port; 0 takes a free one.

    Raises:
        ServeError: If it is taken, or the address is not this machine's.
    """
    # The protocol is named, for asyncio sends small pieces at once (TCP_NODELAY) only where it is. Otherwise the first
    # pieces of a streamed answer wait 40 ms for the client's acknowledgement.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise ServeError(
            f"{host}:{port}: cannot listen there ({error.strerror or error}). Choose another --port or --host."
        ) from None
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the URL by which a browser of this machine reaches a bound port.

    Why: no browser opens the address that stands for all of them.
    """
    host, port = listener.getsockname()[:2]
    shown = EVERY_ADDRESS.get(host, host)
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"
