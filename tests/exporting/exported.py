"""What tests of the export share: rows to check on, a model's answers to them, and what a run folder reports."""

from __future__ import annotations

from tests.tiny_chat import FACTS

from instil.conversation import Conversation, Message
from instil.generation.engine import Engine
from instil.generation.settings import LoadSettings

ROWS = [Conversation((Message("user", q), Message("assistant", a))) for q, a in FACTS]
FIGURE = {"value": 0.75, "low": 0.5, "high": 0.9, "n": 12}
EVALUATION = {
    "data": "data/test.jsonl",
    "model": {"figures": {"exact_match": {"exact_match": FIGURE}, "behaviour": {"stops": FIGURE | {"value": 1.0}}}},
}
LEDGER = {"rows_in": 9, "rows_trained": 7, "left_out": {"too long": {"count": 2, "places": []}}, "trained_tokens": 70}


def answers(folder, precision="fp32"):
    engine = Engine.load(folder, LoadSettings(precision=precision))
    asked = [Conversation((Message("user", question),)) for question, _ in FACTS]
    return [answer.text for answer in engine.answer(asked)]
