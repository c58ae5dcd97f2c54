from __future__ import annotations

import pytest
from tests.conformance.cases import REASONING, TALKS
from tests.conformance.chats import unusual_chat
from tests.conformance.oracle import judge
from tests.conformance.unusual import UNUSUAL


@pytest.mark.parametrize("name", UNUSUAL)
def test_no_conversation_is_trained_wrongly(name: str) -> None:
    chat = unusual_chat(name)
    verdicts = {case: judge(chat, messages) for case, messages in {**TALKS, "reasoning": REASONING}.items()}
    wrong = {case: verdict.detail for case, verdict in verdicts.items() if verdict.kind == "wrong"}
    assert not wrong
    plain = {case: verdicts[case].kind for case in ("single turn", "two turns", "brackets", "white space")}
    expected = UNUSUAL[name].expected
    if expected != "refused_or_exact":
        assert set(plain.values()) == {expected}, {case: verdicts[case] for case in plain}


@pytest.mark.parametrize("family", ["metaspace", "prepend", "unigram"])
@pytest.mark.parametrize(
    "name", ["no generation prompt", "bos at each exchange", "space after the prompt only", "users merged"]
)
def test_every_tokenizer_family_keeps_the_boundary(name: str, family: str) -> None:
    chat = unusual_chat(name, family)
    kinds = [judge(chat, messages) for case, messages in TALKS.items() if case != "emoji and Chinese"]
    assert [verdict for verdict in kinds if verdict.kind == "wrong"] == []
    assert sum(verdict.kind == "exact" for verdict in kinds) >= 8


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in UNUSUAL if UNUSUAL[n].expected == "exact"])
def test_the_proof_passes_where_conversations_are_exact(name: str) -> None:
    proof = unusual_chat(name).prove()
    assert proof.passed, proof.lines()
    assert proof.num_checked >= 8
