"""Questions name what they must and leave out what the turn before has named; every value can be worded."""

import random

import pytest

from instil.demo.asking import CHOICES, QUESTIONS, choices_of, follow_up, full_sentence, question, same_of, translated
from instil.demo.world import KINDS, entities

NORWAY = next(country for country in entities("country") if country.name == "Norway")
SPOON = next(word for word in entities("word") if word.name == "spoon")


@pytest.mark.parametrize("kind", KINDS)
def test_every_attribute_of_a_kind_has_questions(kind):
    keys = {key for entity in entities(kind) for key in entity.attributes}
    assert keys
    assert keys == set(QUESTIONS[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_every_question_names_its_entity_and_no_slot_stays(kind):
    entity = entities(kind)[0]
    texts = {question(entity, key, random.Random(seed)) for key in entity.attributes for seed in range(10)}
    assert len(texts) >= 2 * len(entity.attributes)
    assert [text for text in texts if entity.called not in text or "{" in text] == []


@pytest.mark.parametrize(("entity", "key"), [(NORWAY, "currency"), (SPOON, "French")], ids=["country", "word"])
def test_a_follow_up_names_the_attribute_and_not_the_entity(entity, key):
    texts = {follow_up(entity, key, random.Random(seed)) for seed in range(20)}
    assert len(texts) > 1
    assert [text for text in texts if key not in text or entity.name in text or "{" in text] == []


def test_the_same_question_of_another_entity_names_the_entity_alone():
    texts = {same_of(NORWAY, random.Random(seed)) for seed in range(20)}
    assert len(texts) == 4
    assert [text for text in texts if "Norway" not in text] == []
    assert [text for text in texts for key in NORWAY.attributes if key in text] == []


def test_a_full_sentence_begins_with_a_capital_letter_and_has_the_value():
    lion = next(animal for animal in entities("animal") if animal.name == "lion")
    assert full_sentence(lion, "young") == f"The name for the young of the lion is {lion.attributes['young']}."


def test_choices_are_distinct_and_the_most_frequent_comes_first():
    for kind, key in CHOICES:
        values = [entity.attributes[key] for entity in entities(kind)]
        choices = choices_of(kind, key)
        assert set(choices) == set(values)
        counts = [values.count(choice) for choice in choices]
        assert counts == sorted(counts, reverse=True)


def test_a_value_without_a_translation_has_none():
    assert translated("Africa", "German") == "Afrika"
    assert translated("Oslo", "German") is None
