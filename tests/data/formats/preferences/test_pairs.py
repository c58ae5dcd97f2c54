from __future__ import annotations

from tests.data.formats.rows import A, U

from instil.conversation import Conversation, Message
from instil.data.formats.preferences.pairs import as_judged, as_pair, num_common


def test_the_common_prompt_ends_before_the_last_answer_of_either_side() -> None:
    call, result = A("call"), Message("tool", "7")
    table = [
        ([U("q"), A("a")], [U("q"), A("b")], 1),
        ([U("q"), A("a")], [U("q"), A("a")], 1),
        ([U("q"), A("a")], [U("q"), A("a"), U("r"), A("b")], 1),
        ([U("q"), A("a"), U("r"), A("b")], [U("q"), A("a"), U("r"), A("c")], 3),
        ([U("q"), call, result, A("a")], [U("q"), call, result, A("b")], 3),
        ([U("q"), call, result, A("a")], [U("q"), call], 1),
        ([U("q"), A("a")], [U("r"), A("a")], 0),
        ([U("q"), Message("assistant", "a", weight=0.0), U("r"), A("b")], [U("q"), A("a"), U("r"), A("c")], 3),
        ([U("q"), Message("assistant", "a", reasoning="r"), U("r"), A("b")], [U("q"), A("a"), U("r"), A("b")], 1),
    ]
    for chosen, rejected, expected in table:
        assert num_common(chosen, rejected) == num_common(rejected, chosen) == expected


def test_both_sides_have_the_very_same_prompt() -> None:
    named = Message("assistant", "a", reasoning="r", reasoning_name="thinking")
    other = Message("assistant", "a", reasoning="r", reasoning_name="reasoning")
    chosen, rejected = as_pair(
        Conversation((U("q"), named, U("s"), A("b"))), Conversation((U("q"), other, U("s"), A("c")))
    )
    assert rejected.messages[1].reasoning_name == chosen.messages[1].reasoning_name == "thinking"
    assert as_pair(chosen, rejected) == (chosen, rejected)


def test_the_prompt_of_a_judged_answer_ends_before_the_first_trained_one() -> None:
    silent = Message("assistant", "a", weight=0.0)
    judged = as_judged(Conversation((U("q"), silent, U("r"), A("b"))), "rejected")
    assert [message.weight for message in judged.messages] == [0.0, 0.0, 0.0, None]
    assert as_judged(judged, "rejected") == judged
