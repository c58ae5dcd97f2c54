"""``instil serve``: serve a model over an OpenAI-compatible HTTP API."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from instil.generation.http_api.settings import SERVING, ServeSettings
from instil.generation.settings import LOADING, LoadSettings


def serve(
    model: str,
    *,
    serving: Annotated[ServeSettings, Parameter(name="*")] = SERVING,
    loading: Annotated[LoadSettings, Parameter(name="*")] = LOADING,
) -> None:
    """Serve a model: a chat page at /, /v1/chat/completions, /v1/completions, /v1/models, /health.

    Args:
        model: Run, model folder, adapter folder, Hub id or `demo`.
        serving: Address and limits.
        loading: How the model is loaded.
    """
    from instil.generation.http_api.addresses import listen
    from instil.generation.http_api.server import check_address
    from instil.generation.http_api.server import serve as run

    serving = check_address(serving)
    listen(serving.host, serving.port).close()  # a port in use is reported before a large model is loaded

    from instil.generation.engine import Engine
    from instil.screen import hide_work

    engine = Engine.load(model, loading)
    hide_work()  # the server prints lines, and answers have no bar
    run(engine, serving)
