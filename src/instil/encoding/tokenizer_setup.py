"""Load a model's tokenizer and make it ready for chat: its template, and the control tokens that the template prints.

The one place where a base model becomes a chat model. Runs, `inspect`, `prepare`, `ChatTokenizer.from_pretrained` and
inference with another template all come here, so they see the same ids.

Why: control tokens of an unnamed template are recognised by their form (``<|…|>``, ``<start_of_turn>``), because no
file lists them.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Literal

from instil.encoding.context import EncodingContext
from instil.encoding.loading import load_tokenizer, template_for
from instil.encoding.settings import EncodingSettings
from instil.encoding.template_warnings import chat_model_as_base, other_than_own, own_template
from instil.errors import TemplateError
from instil.model.chat_tokens import TokenChange, add_chat_tokens
from instil.model.folder.generation_config import published_stop_ids
from instil.model.folder.location import ModelLocation, run_folder
from instil.recipe import Recipe
from instil.run_warning import RunWarning
from instil.template.chat_template import ChatTemplate
from instil.template.library import NAMED_TEMPLATES
from instil.template.resolve import DEFAULT_TEMPLATE, ResolvedTemplate, read_template

CONTROL_TOKEN = re.compile(r"<\|[\w.:/-]+\|>|<(?:start|end)_of_turn>")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerSetup:
    """A tokenizer that is ready for chat.

    Attributes:
        tokenizer: transformers' tokenizer, with the tokens that were added.
        template: The compiled template.
        settings: The encoder's settings, with the date that the template prints.
        model_stop_ids: Ids that the model's generation_config stops on.
        template_name: Name of the template, for people.
        change: What was changed in the tokenizer.
        notes: Notes for people, one line each.
        warnings: What is probably wrong with the template for this model.
    """

    tokenizer: Any
    template: ChatTemplate
    settings: EncodingSettings
    model_stop_ids: tuple[int, ...]
    template_name: str
    change: TokenChange
    notes: tuple[str, ...]
    warnings: tuple[RunWarning, ...] = ()


def run_settings(location: ModelLocation) -> EncodingSettings:
    """Return the settings that a model's run was trained with; the defaults for a model without a run.

    Raises:
        RecipeError: If the run's recipe is damaged.
    """
    run = run_folder(location)
    return EncodingSettings() if run is None else EncodingSettings.from_recipe(Recipe.load_saved(run).data)


def set_up_tokenizer(
    location: ModelLocation,
    template: str | None = None,
    *,
    settings: EncodingSettings,
    stop_token: Literal["own", "eos"] = "own",
    trust_remote_code: bool = False,
) -> TokenizerSetup:
    """Load the tokenizer, choose the template, and add the control tokens that the tokenizer lacks.

    If the template prints the date and the settings have none, it is today's from here on.

    Args:
        location: The model's location; only its tokenizer and generation_config are read.
        template: The template, as in a recipe's `model.template`; None for the model's own, or ChatML without one.
        settings: The encoder's settings.
        stop_token: As in a recipe's `model.stop_token`.
        trust_remote_code: Run Python code that comes with the tokenizer.

    Raises:
        ModelError: If there is no tokenizer.
        TemplateError: If the template does not compile.
    """
    tokenizer = load_tokenizer(location.tokenizer_folder, trust_remote_code=trust_remote_code)
    stop_ids = published_stop_ids(location)
    # The template that is set becomes the tokenizer's, so its own is read first.
    has_own, own = bool(tokenizer.chat_template), own_template(tokenizer, date=settings.date)
    as_base = [] if template is not None or has_own else chat_model_as_base(location, stop_ids, tokenizer)
    setup = set_up_loaded(
        tokenizer,
        template,
        settings=settings,
        stop_token=stop_token,
        name=location.name,
        model_stop_ids=stop_ids,
    )
    other = [] if template is None else other_than_own(own, setup.template, location=location)
    return replace(setup, warnings=(*as_base, *other))


def set_up_loaded(
    tokenizer: Any,
    template: str | None = None,
    *,
    settings: EncodingSettings,
    stop_token: Literal["own", "eos"] = "own",
    name: str = "model",
    model_stop_ids: tuple[int, ...] = (),
) -> TokenizerSetup:
    """Set up a tokenizer that is loaded already; it is changed in place. See `set_up_tokenizer`.

    Args:
        tokenizer: transformers' tokenizer.
        template: The template, as in a recipe's `model.template`; None for its own, or ChatML without one.
        settings: The encoder's settings.
        stop_token: As in a recipe's `model.stop_token`.
        name: The model's name, for people.
        model_stop_ids: Ids that the model's generation_config stops on.

    Raises:
        TemplateError: If the template does not compile.
    """
    requested, notes = template, []  # None: the model's own template
    if requested is None and not tokenizer.chat_template:
        requested = DEFAULT_TEMPLATE
        notes.append(f"{name} is a base model without a chat template: it gets {requested}")
    resolved = None if requested is None else read_template(requested)
    if resolved is not None and resolved.note:
        notes.append(resolved.note)
    compiled = template_for(tokenizer, resolved, date=settings.date)
    control_tokens = _control_tokens(resolved, tokenizer, compiled, named=requested in NAMED_TEMPLATES)
    turn_end = _turn_end(tokenizer, compiled, settings, control_tokens)
    source, eos = compiled.source, tokenizer.eos_token
    if requested is not None and stop_token == "eos" and eos and turn_end != eos:
        source = source.replace(turn_end, eos)
        control_tokens = tuple(token for token in control_tokens if token != turn_end)
        turn_end = eos
    # The tokens are added last, because only the final template shows which of them are printed.
    change = add_chat_tokens(tokenizer, control_tokens, stop_token=turn_end, set_eos=requested is not None)
    if settings.date is None and compiled.prints_day:
        settings = replace(settings, date=date.today().isoformat())
    compiled = template_for(tokenizer, None if requested is None else source, date=settings.date)
    template_name = "the model's own"
    if requested is not None:
        template_name = requested if requested in NAMED_TEMPLATES else "the recipe's"
    return TokenizerSetup(
        tokenizer=tokenizer,
        template=compiled,
        settings=settings,
        model_stop_ids=model_stop_ids,
        template_name=template_name,
        change=change,
        notes=tuple(notes),
    )


def _control_tokens(
    template: ResolvedTemplate | None, tokenizer: Any, compiled: ChatTemplate, *, named: bool
) -> tuple[str, ...]:
    """Return the control tokens that the template prints; of a model's own template, those that its tokenizer has."""
    if template is not None and named:
        return template.control_tokens
    candidates = tuple(dict.fromkeys(CONTROL_TOKEN.findall(compiled.source)))
    if template is not None:
        return template.control_tokens or candidates  # a format string lists its own
    vocabulary = tokenizer.get_vocab()
    return tuple(token for token in candidates if token in vocabulary)


def _turn_end(
    tokenizer: Any, template: ChatTemplate, settings: EncodingSettings, control_tokens: tuple[str, ...]
) -> str:
    """Return the token that ends an assistant turn, found on a copy of the tokenizer if it lacks control tokens."""
    vocabulary = tokenizer.get_vocab()
    missing = [token for token in control_tokens if token not in vocabulary]
    if missing:
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.add_tokens(missing, special_tokens=True)
    stops = EncodingContext(tokenizer, template, settings).stop_tokens
    if not stops:
        raise TemplateError(
            f"{template.name}: nothing ends an assistant turn. The template prints no control token there and the "
            "tokenizer has no EOS token. Set model.template to one that ends its turns, such as chatml."
        )
    return stops[0]
