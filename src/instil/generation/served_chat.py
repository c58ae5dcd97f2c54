"""Find the chat template that a model answers with, and the settings of the run that trained it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from instil.conversation import Message
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.settings import EncodingSettings
from instil.errors import ModelError, TemplateError
from instil.model.folder.generation_config import published_stop_ids
from instil.model.folder.location import ModelLocation
from instil.recipe import Recipe


def run_folder(location: ModelLocation) -> Path | None:
    """Return the run that a model belongs to, or None.

    The location names the run itself, or its ``model/`` or ``adapter/`` folder. A recipe alone does not make its
    folder a run, because a base model may lie beside a recipe.
    """
    folder = (location.adapter_folder or location.folder).parent
    if location.kind == "run":
        return folder
    is_run = all((folder / name).exists() for name in ("recipe.yaml", "environment.json"))
    return folder if location.kind in ("folder", "adapter") and is_run else None


def served_chat(tokenizer: Any, location: ModelLocation, template: str | None) -> ChatTokenizer | None:
    """Create a model's chat tokenizer, with the settings that its run was trained with.

    Args:
        tokenizer: transformers' tokenizer.
        location: Where the model's files are.
        template: Chat template to use instead of the model's own, named as in a recipe.

    Returns:
        The chat tokenizer; None for a base model without a template.

    Raises:
        ModelError: If a run's template is missing, or the template does not print the user's message.
        TemplateError: If the template does not compile.
        RecipeError: If the run's recipe is damaged.
    """
    run = run_folder(location)
    if template is None and not tokenizer.chat_template:
        if location.kind == "run":
            raise ModelError(
                f"{location.tokenizer_folder}: the run's chat template is missing. Expected chat_template.jinja. "
                "Copy it from where the run was written, or name a template (--template)."
            )
        return None
    settings = EncodingSettings.from_recipe(Recipe.load_saved(run).data) if run else None
    chat = ChatTokenizer.from_tokenizer(
        tokenizer, template=template, settings=settings, model_stop_ids=published_stop_ids(location)
    )
    _check_user_is_printed(chat, location)
    return chat


def _check_user_is_printed(chat: ChatTokenizer, location: ModelLocation) -> None:
    """Raise if the template does not print the user's message."""
    question, variables = [Message("user", "Hello")], chat.settings.template_variables
    # A template may refuse a lone question and still take other conversations: then nothing can be said here.
    with suppress(TemplateError):
        text = chat.template.render_text(question, variables=variables, add_generation_prompt=True)
        if "hello" not in text.lower():
            raise ModelError(
                f"{location.name}: its chat template does not print the user's message, so the model would not see the "
                "question. Expected a template that prints it. Choose another template (--template)."
            )
