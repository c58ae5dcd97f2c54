"""The pre-training text repeats itself for a seed, covers every fact and asks nothing."""

from itertools import islice

import pytest
from tools.demo_base.text import documents

from instil.demo.wording import WORDINGS
from instil.demo.world import read_world


def test_the_same_seed_gives_the_same_documents_and_another_seed_others():
    first, again, other = (list(islice(documents(seed), 200)) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_no_document_asks_a_question():
    sample = list(islice(documents(1), 5000))
    assert [text for text in sample if "?" in text] == []


def test_no_slot_is_left_unfilled():
    sample = [text for text in islice(documents(2), 5000) if not text.startswith(("def ", "for ", "name ", "numbers"))]
    assert len(sample) > 4000
    for slot in ("{e}", "{v}", "{a}", "{of}", "{its}", "{is_}"):
        assert [text for text in sample if slot in text] == []


@pytest.mark.long
@pytest.mark.slow
def test_every_fact_is_written_down_many_times():
    text = "\n".join(islice(documents(3), 20_000)).casefold()
    facts = [(entity, key) for entity in read_world() for key in entity.attributes]
    assert len(facts) > 2000
    for entity in read_world():
        assert text.count(entity.name.casefold()) > 10, entity.name
    sentence = {(e.kind, e.name, key): WORDINGS[e.kind][key].of.format(e=e.called).casefold() for e, key in facts}
    rare = [fact for fact, words in sentence.items() if words not in text]
    assert len(rare) < len(facts) / 50
