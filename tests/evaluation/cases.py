"""Cases and conversations, made without a model."""

from __future__ import annotations

from instil.conversation import Conversation, Message
from instil.evaluation.cases import Case
from instil.generation.engine import Answer
from instil.generation.parsing.complete import parse_answer
from instil.generation.prompts import Prompt
from instil.generation.sampling import Generated


def case(prediction, reference=None, *, stop_id=2, question="q", system=None, **columns):
    opening = () if system is None else (Message("system", system),)
    conversation = Conversation((*opening, Message("user", question)), extra=columns)
    prompt = Prompt(conversation, None if reference is None else Message("assistant", reference))
    generated = Generated(
        token_ids=(1,), finish_reason="length" if stop_id is None else "stop", stop_id=stop_id, seed=0
    )
    answer = Answer(text=prediction, message=parse_answer(prediction), generated=generated, prompt_ids=(1, 2))
    return Case(prompt, answer)


def talk(*pairs, system=None, **columns):
    opening = [] if system is None else [Message("system", system)]
    turns = [message for q, a in pairs for message in (Message("user", q), Message("assistant", a))]
    return Conversation((*opening, *turns), extra=columns)
