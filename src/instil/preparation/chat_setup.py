"""Set up the tokenizer and chat template of a recipe's model, with the tokens that the template prints.

A run does this first, because everything else reads the tokenizer. `inspect`, `prepare` and `template` do the same.

Why: control tokens of an unnamed template are recognised by their form (``<|…|>``, ``<start_of_turn>``), because no
file lists them.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, replace
from datetime import date

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.loading import load_tokenizer
from instil.encoding.settings import EncodingSettings
from instil.errors import TemplateError
from instil.model.folder.config import context_length, load_config
from instil.model.folder.generation_config import published_stop_ids
from instil.model.folder.location import ModelLocation
from instil.model.new_tokens import TokenChange, add_chat_tokens
from instil.recipe import Recipe
from instil.template.library import NAMED_TEMPLATES
from instil.template.resolve import DEFAULT_TEMPLATE, ResolvedTemplate, read_template

CONTROL_TOKEN = re.compile(r"<\|[\w.:/-]+\|>|<(?:start|end)_of_turn>")


@dataclass(frozen=True, slots=True)
class ChatSetup:
    """A tokenizer that is ready for chat.

    Attributes:
        chat: Tokenizer and template.
        template: Name of the template, for people.
        change: The changes to the tokenizer.
        notes: Notes for people, one line each.
    """

    chat: ChatTokenizer
    template: str
    change: TokenChange
    notes: tuple[str, ...]


def set_up_chat(recipe: Recipe, location: ModelLocation) -> ChatSetup:
    """Load the tokenizer, choose the template, and add the control tokens that the tokenizer lacks.

    If the template prints the date and the recipe sets none, it is today's from here on (see `with_date`).

    Args:
        recipe: The recipe. Only `model` and `data` count.
        location: The model's location.

    Raises:
        ModelError: If there is no tokenizer.
        TemplateError: If the template does not compile.
    """
    tokenizer = load_tokenizer(location.tokenizer_folder, trust_remote_code=recipe.model.trust_remote_code)
    settings = EncodingSettings.from_recipe(recipe.data)
    requested, notes = recipe.model.template, []  # None: the model's own template
    if requested is None and not tokenizer.chat_template:
        requested = DEFAULT_TEMPLATE
        notes.append(f"{recipe.model.name} is a base model without a chat template: it gets {requested}")
    template = None if requested is None else read_template(requested)
    if template is not None and template.note:
        notes.append(template.note)
    chat = ChatTokenizer.from_tokenizer(tokenizer, template, settings=settings)
    control_tokens = _control_tokens(template, chat, named=requested in NAMED_TEMPLATES)
    stop_token = _stop_token(chat, control_tokens)
    eos = tokenizer.eos_token
    if requested is not None and recipe.model.stop_token == "eos" and eos and stop_token != eos:
        source = chat.template.source.replace(stop_token, eos)
        chat = ChatTokenizer.from_tokenizer(tokenizer, source, settings=settings)
        control_tokens = tuple(token for token in control_tokens if token != stop_token)
        stop_token = eos
    # The tokens are added last, because only the final template shows which of them are printed.
    change = add_chat_tokens(tokenizer, control_tokens, stop_token=stop_token, set_eos=requested is not None)
    if settings.date is None and chat.template.prints_day:
        settings = replace(settings, date=date.today().isoformat())
    own_source = None if requested is None else chat.template.source
    chat = ChatTokenizer.from_tokenizer(
        tokenizer, own_source, settings=settings, model_stop_ids=published_stop_ids(location)
    )
    name = "the model's own" if requested is None else requested if requested in NAMED_TEMPLATES else "the recipe's"
    return ChatSetup(chat, name, change, tuple(notes))


def with_max_tokens(recipe: Recipe, location: ModelLocation) -> Recipe:
    """Return the recipe with the model's context length as `data.max_tokens`, where the recipe sets none."""
    if recipe.data.max_tokens is not None:
        return recipe
    length = context_length(load_config(location, trust_remote_code=recipe.model.trust_remote_code))
    return recipe if length is None else recipe.override({"data": {"max_tokens": length}})


def with_date(recipe: Recipe, chat: ChatTokenizer) -> Recipe:
    """Return the recipe with the date that the template prints, so that resuming and inference use the same date."""
    day = chat.settings.date
    return recipe if day == recipe.data.date else recipe.override({"data": {"date": day}})


def _control_tokens(template: ResolvedTemplate | None, chat: ChatTokenizer, *, named: bool) -> tuple[str, ...]:
    """Return the control tokens that the template prints; of a model's own template, those that its tokenizer has."""
    if template is not None and named:
        return template.control_tokens
    candidates = tuple(dict.fromkeys(CONTROL_TOKEN.findall(chat.template.source)))
    if template is not None:
        return template.control_tokens or candidates  # a format string lists its own
    vocabulary = chat.tokenizer.get_vocab()
    return tuple(token for token in candidates if token in vocabulary)


def _stop_token(chat: ChatTokenizer, control_tokens: tuple[str, ...]) -> str:
    """Return the token that ends an assistant turn, found on a copy of the tokenizer with the control tokens."""
    tokenizer = copy.deepcopy(chat.tokenizer)
    tokenizer.add_tokens([token for token in control_tokens if token not in tokenizer.get_vocab()], special_tokens=True)
    stops = ChatTokenizer(tokenizer, chat.template, settings=chat.settings).stop_tokens
    if not stops:
        raise TemplateError(
            f"{chat.template.name}: nothing ends an assistant turn. The template prints no control token there and the "
            "tokenizer has no EOS token. Set model.template to one that ends its turns, such as chatml."
        )
    return stops[0]
