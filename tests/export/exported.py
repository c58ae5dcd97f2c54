"""What tests of the export compare: rows to check on, and a model's answers to them."""

from __future__ import annotations

from tests.tiny_chat import FACTS

from instil.conversation import Conversation, Message
from instil.generation.engine import Engine
from instil.generation.settings import LoadSettings

ROWS = [Conversation((Message("user", q), Message("assistant", a))) for q, a in FACTS]


def answers(folder, precision="fp32"):
    engine = Engine.load(folder, LoadSettings(precision=precision))
    asked = [Conversation((Message("user", question),)) for question, _ in FACTS]
    return [answer.text for answer in engine.answer(asked)]
