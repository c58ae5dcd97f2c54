"""Each kind of dialogue ends with the right answer, and the answer follows from the request."""

import json
import random

import pytest

from instil.demo import dialogues
from instil.demo.asking import choices_of
from instil.demo.world import entities

NORWAY = next(country for country in entities("country") if country.name == "Norway")
KENYA = next(country for country in entities("country") if country.name == "Kenya")
IRON = next(element for element in entities("element") if element.name == "iron")
SEEDS = range(20)


def rng(seed=0):
    return random.Random(seed)


def answer_of(dialogue):
    role, text = dialogue.turns[-1]
    assert role == "assistant"
    return text


def test_the_same_random_state_makes_the_same_dialogue():
    assert dialogues.ask(NORWAY, "capital", rng(3)) == dialogues.ask(NORWAY, "capital", rng(3))


def test_a_question_about_a_word_is_a_translation():
    spoon = next(word for word in entities("word") if word.name == "spoon")
    assert dialogues.ask(spoon, "German", rng()).task == "translation"
    assert dialogues.ask(NORWAY, "capital", rng()).task == "question"


@pytest.mark.parametrize(("entity", "key"), [(NORWAY, "continent"), (IRON, "category")], ids=["country", "element"])
def test_the_options_of_a_classification_hold_the_answer_and_at_most_five(entity, key):
    firsts = set()
    for seed in SEEDS:
        dialogue = dialogues.classify(entity, key, rng(seed))
        text = dialogue.turns[0][1]
        options = [option for option in choices_of(entity.kind, key) if option in text]
        assert answer_of(dialogue) == entity.attributes[key]
        assert entity.attributes[key] in options
        assert text.count(", ") < 5
        firsts.add(min(options, key=text.index))
    assert len(firsts) > 1, "the right option must not have a fixed place"


def test_an_extraction_answers_with_what_its_text_states():
    for seed in SEEDS:
        dialogue = dialogues.extract(NORWAY, ["capital", "currency"], rng(seed))
        record = json.loads(answer_of(dialogue))
        assert list(record) == ["country", "capital", "currency"]
        assert [value for value in record.values() if value.casefold() not in dialogue.turns[0][1].casefold()] == []


def test_a_list_has_a_bullet_for_each_attribute_in_order():
    dialogue = dialogues.make_list(NORWAY, ["currency", "capital"], rng())
    assert answer_of(dialogue) == f"- {NORWAY.attributes['currency']}\n- {NORWAY.attributes['capital']}"


def test_sums_and_products_are_right():
    for seed in SEEDS:
        assert answer_of(dialogues.add(17, 5, rng(seed))) == "22"
        assert answer_of(dialogues.multiply(7, 8, rng(seed))) == "56"


def test_the_answer_with_code_is_a_line_of_python_that_prints_the_value(capsys):
    exec(answer_of(dialogues.code(NORWAY, "capital", rng())))
    assert capsys.readouterr().out == "Oslo\n"


def test_later_turns_name_neither_the_same_entity_nor_the_same_attribute_again():
    for seed in SEEDS:
        same_entity = dialogues.second_attribute(NORWAY, ["capital", "currency"], rng(seed))
        same_attribute = dialogues.second_entity([NORWAY, KENYA], "capital", rng(seed))
        assert "Norway" not in same_entity.turns[2][1]
        assert answer_of(same_entity) == NORWAY.attributes["currency"]
        assert "capital" not in same_attribute.turns[2][1]
        assert answer_of(same_attribute) == KENYA.attributes["capital"]
        assert same_entity.slice == same_attribute.slice == "second_turn"


@pytest.mark.parametrize(
    ("manner", "answers"),
    [
        ("sentence", {"sentence": "The continent of Norway is Europe."}),
        ("short", {"": "Europe"}),
        ("json", {"JSON": '{"continent": "Europe"}'}),
        ("persona", {"pirate": "Arr, Europe!", "robot": "Beep. Europe.", "butler": "Europe, if you please."}),
        ("language", {"French": "Europe", "Spanish": "Europa", "German": "Europa"}),
    ],
)
def test_the_system_prompt_decides_the_form_of_the_answer(manner, answers):
    seen = set()
    for seed in range(30):
        dialogue = dialogues.with_system(NORWAY, "continent", rng(seed), manner=manner)
        (role, system), _, (_, answer) = dialogue.turns
        assert role == "system"
        (word,) = [word for word in answers if word in system]
        assert answer == answers[word]
        seen.add(word)
    assert seen == set(answers)


def test_only_values_that_the_facts_translate_are_translatable():
    assert dialogues.translatable_keys(NORWAY) == ["continent"]
    assert dialogues.translatable_keys(IRON) == ["state"], "its category, transition metal, has no translation"
