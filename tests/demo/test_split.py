"""No entity of the test questions occurs anywhere in the instruction data."""

import pytest

from instil.demo.instructions import write_instructions
from instil.demo.questions import held_out_questions
from instil.demo.split import HELD_OUT_QUOTA, held_out, trained
from instil.demo.world import read_world


@pytest.fixture(scope="module")
def instruction_text(tmp_path_factory):
    paths = write_instructions(tmp_path_factory.mktemp("instructions"))
    return {path.name: path.read_text(encoding="utf-8").casefold() for path in paths}


@pytest.mark.slow
def test_no_held_out_name_is_a_substring_of_any_instruction_file(instruction_text):
    names = sorted(entity.name.casefold() for entity in held_out())
    assert len(names) > 180
    assert len(instruction_text) == 3
    for file, text in instruction_text.items():
        assert len(text) > 100_000
        assert [name for name in names if name in text] == [], file


def test_a_leak_would_be_seen(instruction_text):
    present = [entity for entity in trained() if entity.name.casefold() in instruction_text["alpaca.json"]]
    assert len(present) > 300


def test_every_fact_question_is_about_a_held_out_entity():
    names = [entity.name for entity in held_out()]
    asked = [each for each in held_out_questions() if each.task != "arithmetic"]
    assert len(asked) > 300
    for question in asked:
        assert any(name in text for role, text in question.messages if role == "user" for name in names), question


def test_held_out_and_trained_divide_the_world():
    assert set(trained()) | held_out() == set(read_world())
    assert set(trained()) & held_out() == set()


@pytest.mark.parametrize(("kind", "most"), HELD_OUT_QUOTA.items())
def test_the_quota_of_a_kind_is_kept_and_more_than_half_used(kind, most):
    count = sum(entity.kind == kind for entity in held_out())
    assert most / 2 < count <= most
