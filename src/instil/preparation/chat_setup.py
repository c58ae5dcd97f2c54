"""Give the model of a recipe its tokenizer and template, and the tokens that the template prints.

The first thing that a run does with a model, for everything else reads the tokenizer. Questionable on purpose: control tokens of a
template without a name are recognised by their look (``<|…|>``, ``<start_of_turn>``), because no file says which they are.
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
from instil.model.folder.location import ModelLocation
from instil.model.new_tokens import TokenChange, add_chat_tokens
from instil.recipe import Recipe
from instil.template.library import NAMED_TEMPLATES
from instil.template.resolve import ResolvedTemplate, read_template

DEFAULT_TEMPLATE = "chatml"
CONTROL_TOKEN = re.compile(r"<\|[\w.:/-]+\|>|<(?:start|end)_of_turn>")


@dataclass(frozen=True, slots=True)
class ChatSetup:
    """A tokenizer that is ready for chat.

    Attributes:
        chat: Tokenizer and template.
        template: Which template it is, in words.
        change: What was done to the tokenizer.
        notes: What a person should know about it, a line each.
    """

    chat: ChatTokenizer
    template: str
    change: TokenChange
    notes: tuple[str, ...]


def set_up_chat(recipe: Recipe, location: ModelLocation) -> ChatSetup:
    """Load the tokenizer, decide the template, and add the control tokens that the tokenizer lacks.

    Where the template prints the day and the recipe pins none, it is today from here on; see `with_date`.

    Args:
        recipe: The recipe; `model` and `data` count.
        location: The model's place.

    Raises:
        ModelError: If there is no tokenizer.
        TemplateError: If the template does not compile.
    """
    tokenizer = load_tokenizer(location.tokenizer_folder, trust_remote_code=recipe.model.trust_remote_code)
    settings = EncodingSettings.from_recipe(recipe.data)
    given, notes = recipe.model.template, []
    if given is None and not tokenizer.chat_template:
        given = DEFAULT_TEMPLATE
        notes.append(f"{recipe.model.name} is a base model without a chat template: it gets {given}")
    read = None if given is None else read_template(given)
    if read is not None and read.note:
        notes.append(read.note)
    chat = ChatTokenizer.from_tokenizer(tokenizer, read, settings=settings)
    printed = _control_tokens(read, chat, named=given in NAMED_TEMPLATES)
    stop = _stop_token(chat, printed)
    own_eos = tokenizer.eos_token
    if given is not None and recipe.model.stop_token == "eos" and own_eos and stop != own_eos:
        chat = ChatTokenizer.from_tokenizer(tokenizer, chat.template.source.replace(stop, own_eos), settings=settings)
        printed = tuple(token for token in printed if token != stop)
        stop = own_eos
    change = add_chat_tokens(tokenizer, printed, stop_token=stop, set_eos=given is not None)
    if settings.date is None and chat.template.prints_day:
        settings = replace(settings, date=date.today().isoformat())
    own = None if given is None else chat.template.source
    chat = ChatTokenizer.from_tokenizer(tokenizer, own, settings=settings)
    name = "the model's own" if given is None else given if given in NAMED_TEMPLATES else "the recipe's"
    return ChatSetup(chat, name, change, tuple(notes))


def with_max_tokens(recipe: Recipe, location: ModelLocation) -> Recipe:
    """Fill in the model's context length where the recipe names no longest example."""
    if recipe.data.max_tokens is not None:
        return recipe
    length = context_length(load_config(location, trust_remote_code=recipe.model.trust_remote_code))
    return recipe if length is None else recipe.override({"data": {"max_tokens": length}})


def with_date(recipe: Recipe, chat: ChatTokenizer) -> Recipe:
    """Fill in the day that the template prints, so that a resumed run prepares, and serving renders, with the same one."""
    day = chat.settings.date
    return recipe if day == recipe.data.date else recipe.override({"data": {"date": day}})


def _control_tokens(read: ResolvedTemplate | None, chat: ChatTokenizer, *, named: bool) -> tuple[str, ...]:
    """Name the single tokens that the template prints; of a model's own template those that its tokenizer has."""
    if read is not None and named:
        return read.control_tokens
    found = tuple(dict.fromkeys(CONTROL_TOKEN.findall(chat.template.source)))
    if read is not None:
        return read.control_tokens or found  # a format string says them
    vocabulary = chat.tokenizer.get_vocab()
    return tuple(token for token in found if token in vocabulary)


def _stop_token(chat: ChatTokenizer, printed: tuple[str, ...]) -> str:
    """Find what ends an assistant turn, on a copy of the tokenizer that has the tokens already."""
    tokenizer = copy.deepcopy(chat.tokenizer)
    tokenizer.add_tokens([token for token in printed if token not in tokenizer.get_vocab()], special_tokens=True)
    stops = ChatTokenizer(tokenizer, chat.template, settings=chat.settings).stop_tokens
    if not stops:
        raise TemplateError(
            f"{chat.template.name}: nothing ends an assistant turn: the template prints no control token there and the "
            "tokenizer has no eos token; set model.template to one that ends its turns (chatml)"
        )
    return stops[0]
