"""The template that a model answers with, and the settings of the run that it comes from.

Questionable on purpose: a base model without a template is given none here, as the engine says.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instil.conversation import Message
from instil.errors import ModelError, TemplateError
from instil.recipe import Recipe

if TYPE_CHECKING:
    from instil.encoding.chat_tokenizer import ChatTokenizer
    from instil.model.folder.location import ModelLocation


def run_folder(location: ModelLocation) -> Path | None:
    """Give the run that a model belongs to: the one that was named, or whose ``model/`` or ``adapter/`` was; else None.

    A recipe alone makes no run of the folder that it lies in: a base model may lie beside it.
    """
    folder = (location.adapter_folder or location.folder).parent
    if location.kind == "run":
        return folder
    written = all((folder / name).exists() for name in ("recipe.yaml", "environment.json"))
    return folder if location.kind in ("folder", "adapter") and written else None


def served_chat(tokenizer: Any, location: ModelLocation, template: str | None) -> ChatTokenizer | None:
    """Make a model's chat tokenizer, with the settings that its run was trained with.

    Args:
        tokenizer: transformers' tokenizer.
        location: The model's place.
        template: Chat template in the place of its own, as a recipe names it.

    Returns:
        It; None for a base model without a template.

    Raises:
        ModelError: If a run's template is missing, or the template leaves out what a user says.
        TemplateError: If the template does not compile.
        RecipeError: If the run's recipe is damaged.
    """
    from instil.encoding.chat_tokenizer import ChatTokenizer
    from instil.encoding.settings import EncodingSettings

    run = run_folder(location)
    if template is None and not tokenizer.chat_template:
        if location.kind == "run":
            raise ModelError(
                f"{location.tokenizer_folder}: the chat template is missing, with which every run is trained; "
                "expected chat_template.jinja; copy it from where the run was written, or name it (--template)"
            )
        return None
    settings = EncodingSettings.from_recipe(Recipe.load_saved(run).data) if run else None
    chat = ChatTokenizer.from_tokenizer(tokenizer, template=template, settings=settings)
    _check_heard(chat, location)
    return chat


def _check_heard(chat: ChatTokenizer, location: ModelLocation) -> None:
    """Refuse a template that leaves out what a user says; one that refuses a lone question is found out by what it is given."""
    asked, variables = [Message("user", "Hello")], chat.settings.template_variables
    with suppress(TemplateError):
        text = chat.template.render_text(asked, variables=variables, add_generation_prompt=True)
        if "hello" not in text.lower():
            raise ModelError(
                f"{location.name}: its chat template prints nothing of what a user says, so the model would not see the question; "
                "expected a template that prints it; name another (--template)"
            )
