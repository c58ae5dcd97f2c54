"""Find the chat template that a model answers with, and the settings of the run that trained it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from instil.conversation import Message
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.loading import load_tokenizer
from instil.encoding.settings import EncodingSettings
from instil.encoding.tokenizer_setup import set_up_tokenizer
from instil.errors import ModelError, TemplateError
from instil.model.folder.generation_config import published_stop_ids
from instil.model.folder.location import ModelLocation, run_folder
from instil.model.new_tokens import TokenChange
from instil.recipe import Recipe


@dataclass(frozen=True, slots=True)
class ServedChat:
    """What a model answers with.

    Attributes:
        tokenizer: transformers' tokenizer.
        chat: Tokenizer and template; None for a base model without a template.
        change: The tokens that a chosen template added to the tokenizer; None for the model's own template.
    """

    tokenizer: Any
    chat: ChatTokenizer | None
    change: TokenChange | None


def served_chat(location: ModelLocation, template: str | None, *, trust_remote_code: bool = False) -> ServedChat:
    """Load a model's tokenizer and template, with the settings that its run was trained with.

    Args:
        location: Where the model's files are.
        template: Chat template to use instead of the model's own, named as in a recipe. The tokens that it prints are
            added as in a run.
        trust_remote_code: Run Python code that comes with the tokenizer.

    Raises:
        ModelError: If a run's template is missing, or the template does not print the user's message.
        TemplateError: If the template does not compile.
        RecipeError: If the run's recipe is damaged.
    """
    tokenizer = load_tokenizer(location.tokenizer_folder, trust_remote_code=trust_remote_code)
    run, change = run_folder(location), None
    if template is None and not tokenizer.chat_template:
        if location.kind == "run":
            raise ModelError(
                f"{location.tokenizer_folder}: the run's chat template is missing. Expected chat_template.jinja. "
                "Copy it from where the run was written, or name a template (--template)."
            )
        return ServedChat(tokenizer, None, None)
    settings = EncodingSettings.from_recipe(Recipe.load_saved(run).data) if run else EncodingSettings()
    if template is None:
        # The tokenizer stays as it is: the model has a row for each token that its own template prints.
        chat = ChatTokenizer.from_tokenizer(tokenizer, settings=settings, model_stop_ids=published_stop_ids(location))
    else:
        setup = set_up_tokenizer(location, template, settings=settings, trust_remote_code=trust_remote_code)
        tokenizer, chat, change = setup.tokenizer, ChatTokenizer.of(setup), setup.change
    _check_user_is_printed(chat, location)
    return ServedChat(tokenizer, chat, change)


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
