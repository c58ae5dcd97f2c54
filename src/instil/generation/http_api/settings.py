"""Who may reach the server, and what one request may cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """How a model is served.

    Attributes:
        host: Address to listen on; any but loopback needs an API key.
        port: Port to listen on; 0 takes a free one.
        api_key: Key that clients must send (`Authorization: Bearer KEY`); the environment's INSTIL_API_KEY unless
            given.
        served_name: Name by which clients address the model; the model's own unless given.
        max_new_tokens: Longest answer that a request may set, and the limit of a request that sets none.
        max_body_mb: Largest request body in MB.
        max_seconds: Longest time for one request, reading and writing included.
        max_requests: Answers in progress or waiting at a time; more get status 429.
        max_connections: Open connections at a time; more get status 503.
        max_transfer_seconds: Longest time for a request to arrive, and for a reader of an answer to block.
        cache_tokens: Tokens in the key-value cache, over all requests.
        prefix_mb: MB of keys and values kept for prompts that begin like an earlier text; 0 keeps none.
        cors: Origins whose web pages may call the server, such as http://localhost:3000; `*` is every page. Repeat the
            option for more.
        quiet: Print no line for each request.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = None
    served_name: str | None = None
    max_new_tokens: int = 1024
    max_body_mb: float = 4.0
    max_seconds: float = 600.0
    max_requests: int = 256
    max_connections: int = 512
    max_transfer_seconds: float = 30.0
    cache_tokens: int = 65_536
    prefix_mb: float = 512.0
    cors: tuple[str, ...] = ()
    quiet: bool = False


SERVING = ServeSettings()
