"""Every attribute has sentences, and a filled sentence has its value and no open slot."""

import random

import pytest

from instil.demo.wording import BACK_FRAMES, FRAMES, WORDINGS, fill_frame, named_sentence
from instil.demo.world import KINDS, Entity, entities


@pytest.mark.parametrize("kind", KINDS)
def test_every_attribute_of_a_kind_has_wordings(kind):
    keys = {key for entity in entities(kind) for key in entity.attributes}
    assert keys
    assert keys == set(WORDINGS[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_every_sentence_has_the_value_and_those_that_name_the_entity_name_it(kind):
    entity = entities(kind)[0]
    for key, value in entity.attributes.items():
        words = WORDINGS[kind][key]
        named = [fill_frame(frame, entity, key).casefold() for frame in (*words.named, *FRAMES)]
        back = [fill_frame(frame, entity, key).casefold() for frame in (*words.back, *BACK_FRAMES)]
        assert len(named) > len(FRAMES)
        assert len(back) > len(BACK_FRAMES)
        assert [text for text in named if entity.name.casefold() not in text] == []
        assert [text for text in named + back if value.casefold() not in text or "{" in text] == []


@pytest.mark.parametrize(("value", "phrase"), [("gas giant", "a gas giant"), ("ice giant", "an ice giant")])
def test_the_article_fits_the_value(value, phrase):
    assert fill_frame("{e} is {a}.", Entity("planet", "Mars", {"type": value}), "type") == f"Mars is {phrase}."


def test_named_sentences_use_the_own_wordings_and_the_common_frames():
    norway = next(country for country in entities("country") if country.name == "Norway")
    texts = {named_sentence(norway, "capital", random.Random(seed)) for seed in range(200)}
    own = {fill_frame(frame, norway, "capital") for frame in WORDINGS["country"]["capital"].named}
    common = {fill_frame(frame, norway, "capital") for frame in FRAMES}
    assert texts & own
    assert texts & (common - own)
    assert texts <= own | common
