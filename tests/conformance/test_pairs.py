"""Every pair of answers is exact, or left out or refused with the reason, whatever the template."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
from tests.conformance.chats import FAMILIES, all_chats, chat_of
from tests.conformance.corpus_chats import corpus_chats
from tests.conformance.oracle import Verdict
from tests.conformance.own_templates import OWN, own_chat
from tests.conformance.pairs import SEPARATE, SHAPES, judge_pair
from tests.corpus import needs_corpus

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.preparation.encode_pairs import EQUAL, PREFIX, PROMPTS_DIFFER, SEVERAL_EXAMPLES


def verdicts(chats: Iterable[tuple[str, ChatTokenizer]]) -> dict[tuple[str, str], Verdict]:
    return {(name, shape): judge_pair(chat, pair) for name, chat in chats for shape, pair in SHAPES.items()}


def check(found: dict[tuple[str, str], Verdict], *, least_exact: float) -> Counter[str]:
    """Assert that no verdict is wrong, that all have a reason, and that most pairs are exact."""
    wrong = {case: verdict.detail for case, verdict in found.items() if verdict.kind == "wrong"}
    assert wrong == {}
    assert all(verdict.detail for verdict in found.values() if verdict.kind != "exact")
    left_out = {verdict.detail for verdict in found.values() if verdict.kind == "left out"}
    assert left_out <= {EQUAL, PREFIX, PROMPTS_DIFFER, SEVERAL_EXAMPLES}
    kinds = Counter(verdict.kind for verdict in found.values())
    assert kinds["exact"] >= least_exact * (kinds.total() - kinds["unfit"]), kinds
    return kinds


@pytest.mark.parametrize("family", FAMILIES)
def test_pairs_of_named_templates_are_exact_or_refused(family: str) -> None:
    kinds = check(verdicts([(family, chat_of(family))]), least_exact=0.6)
    assert kinds["exact"] >= 10, kinds


def test_pairs_of_our_own_templates_are_exact_or_refused() -> None:
    check(verdicts((name, own_chat(name)) for name in OWN), least_exact=0.85)


@pytest.mark.parametrize(("name", "reason"), [("equal", EQUAL), ("beginning", PREFIX)])
def test_a_pair_that_is_none_is_left_out_under_every_template(name: str, reason: str) -> None:
    found = [judge_pair(chat, SEPARATE[name]) for chat in all_chats()]
    assert {verdict.detail for verdict in found if verdict.kind != "unfit"} == {reason}


@pytest.mark.long
@pytest.mark.slow
@needs_corpus(874)
def test_pairs_of_published_templates_are_exact_or_refused() -> None:
    check(verdicts(corpus_chats(every=6)), least_exact=0.85)


@pytest.mark.exhaustive
@needs_corpus(5244)
def test_pairs_of_every_published_template_are_exact_or_refused() -> None:
    kinds = check(verdicts(corpus_chats(every=1)), least_exact=0.85)
    assert kinds.total() >= 5000
