"""The embedded base model's tokenizer with ChatML, as training sets it up."""

from __future__ import annotations

import copy
from functools import cache

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.settings import EncodingSettings
from instil.model.folder.location import locate
from instil.preparation.chat_setup import set_up_chat
from instil.recipe import Recipe


@cache
def _chat() -> ChatTokenizer:
    return set_up_chat(Recipe(), locate("demo")).chat


def other_template(source: str, **settings) -> ChatTokenizer:
    """Return a copy of the tokenizer with another template."""
    return ChatTokenizer.from_tokenizer(copy.deepcopy(_chat().tokenizer), source, settings=EncodingSettings(**settings))


def small_chat(**settings) -> ChatTokenizer:
    """Return a ChatML tokenizer with other settings and its own counts."""
    return _chat().with_settings(EncodingSettings(**settings))
