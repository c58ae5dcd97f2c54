"""The facts are complete and free of doubles."""

from collections import Counter

import pytest

from instil.demo.world import entities, read_world


def test_no_entity_is_there_twice():
    counts = Counter((entity.kind, entity.name.casefold()) for entity in read_world())
    assert len(counts) > 600
    assert [name for name, count in counts.items() if count > 1] == []


def test_no_attribute_is_empty_or_padded():
    values = [value for entity in read_world() for value in (entity.name, *entity.attributes.values())]
    assert len(values) > 2500
    assert [value for value in values if not value or value != value.strip()] == []


@pytest.mark.parametrize(
    ("kind", "key"),
    [("country", "capital"), ("element", "symbol"), ("element", "number")],
)
def test_values_that_name_one_entity_are_not_shared(kind, key):
    counts = Counter(entity.attributes[key] for entity in entities(kind))
    assert len(counts) > 90
    assert [value for value, count in counts.items() if count > 1] == []


def test_elements_follow_the_periodic_table():
    numbers = {entity.name: int(entity.attributes["number"]) for entity in entities("element")}
    ends = {"helium": 2, "neon": 10, "argon": 18, "krypton": 36, "xenon": 54, "radon": 86}
    assert {name: numbers[name] for name in ends} == ends
    for entity in entities("element"):
        period = 1 + sum(int(entity.attributes["number"]) > last for last in ends.values())
        assert entity.attributes["period"] == str(period), entity.name
        symbol = entity.attributes["symbol"]
        assert 1 <= len(symbol) <= 2
        assert symbol == symbol.capitalize()
