"""Find the chat template that a model answers with, and the settings of the run that trained it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from instil.conversation import Message
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.loading import load_tokenizer
from instil.encoding.tokenizer_setup import run_settings, set_up_tokenizer
from instil.errors import ModelError, TemplateError
from instil.model.chat_tokens import TokenChange
from instil.model.folder.generation_config import published_stop_ids
from instil.model.folder.location import ModelLocation


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
    if template is not None:
        setup = set_up_tokenizer(
            location, template, settings=run_settings(location), trust_remote_code=trust_remote_code
        )
        served = ServedChat(setup.tokenizer, ChatTokenizer.of(setup), setup.change)
    else:
        served = _with_own_template(location, trust_remote_code=trust_remote_code)
    if served.chat is not None:
        _check_user_is_printed(served.chat, location)
    return served


def _with_own_template(location: ModelLocation, *, trust_remote_code: bool) -> ServedChat:
    """Load a model's tokenizer as it is: the model has a row for each token that its own template prints."""
    tokenizer = load_tokenizer(location.tokenizer_folder, trust_remote_code=trust_remote_code)
    if tokenizer.chat_template:
        settings, stop_ids = run_settings(location), published_stop_ids(location)
        return ServedChat(
            tokenizer, ChatTokenizer.from_tokenizer(tokenizer, settings=settings, model_stop_ids=stop_ids), None
        )
    if location.kind == "run":
        raise ModelError(
            f"{location.tokenizer_folder}: the run's chat template is missing. Expected chat_template.jinja. "
            "Copy it from where the run was written, or name a template (--template)."
        )
    return ServedChat(tokenizer, None, None)


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
