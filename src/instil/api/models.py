"""`instil.load_model`: open a model to ask it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from instil.generation.settings import load_settings

if TYPE_CHECKING:
    from instil.generation.chat_model import ChatModel


def load_model(model: Any, tokenizer: Any = None, **loading: Any) -> ChatModel:
    """Open a model to ask it.

    Args:
        model: What a command takes as MODEL: a run (also a `Run`), its ``model/``, an adapter folder, a model folder, a
            Hub id or ``demo``. Or a transformers model that is loaded already.
        tokenizer: The tokenizer of a loaded model.
        **loading: Settings of `LoadSettings`: load (``4bit``, ``8bit``), device, precision, revision, template,
            trust_remote_code.

    Raises:
        ModelError: If there is no such model, or it is incomplete.
        GenerationError: If a setting for loading is wrong.
        TemplateError: If the template does not compile.

    Example:
        >>> model = load_model("runs/demo", device="cpu")  # doctest: +SKIP
        >>> model.chat("Hi", temperature=0.7, seed=1).content  # doctest: +SKIP
    """
    settings = load_settings(**loading)
    # Why: torch takes seconds to import, and a wrong setting is reported before that.
    from instil.generation.chat_model import open_model

    return open_model(model, tokenizer, settings)
