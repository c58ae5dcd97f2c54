from __future__ import annotations

import pytest
import torch
from tests.tiny_chat import FACTS, conversation, folders

from instil.conversation import Conversation, Message, Place
from instil.errors import GenerationError, InstilError, ModelError
from instil.generation.decoder.prefixes import Prefixes
from instil.generation.engine import Engine, plain_text
from instil.generation.session import Session
from instil.generation.settings import LoadSettings, SamplingSettings


def asked(*turns, system=None):
    opening = [] if system is None else [Message("system", system)]
    roles = ("user", "assistant")
    return Conversation((*opening, *(Message(roles[n % 2], text) for n, text in enumerate(turns))))


@pytest.fixture(scope="module")
def tuned():
    return Engine.load(folders()["tuned"])


def test_answers_are_what_was_learned_and_end_with_the_stop_token(tuned):
    answers = tuned.answer([asked(question) for question, _ in FACTS])
    assert [answer.text for answer in answers] == [answer for _, answer in FACTS]
    assert {answer.generated.stop_id for answer in answers} == {258}
    thinking, calling = answers[4], answers[5]
    assert (thinking.message.reasoning, thinking.content) == ("hm hm", "Yes")
    assert (calling.message.tool_calls[0].name, calling.content) == ("time", "")


def test_an_answer_is_one_line(tuned):
    (answer,) = tuned.answer([asked("Two plus two?")], SamplingSettings(max_new_tokens=40))
    assert repr(answer) == r"Answer(16 tokens, finished by stop, 'So 2+2=4\n#### 4')"
    assert str(answer) == answer.content


def test_prompt_ids_equal_transformers_own(tuned):
    for question, _ in FACTS:
        own = tuned.tokenizer.apply_chat_template(conversation(question), add_generation_prompt=True, return_dict=False)
        assert tuned.prompt(asked(question)) == own


def test_plain_transformers_gives_the_same_answers(tuned):
    for question, answer in FACTS[:3]:
        prompt = torch.tensor([tuned.prompt(asked(question))])
        written = tuned.model.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=64, do_sample=False, pad_token_id=256
        )[0, prompt.shape[1] :]
        assert tuned.tokenizer.decode(written) == answer + "<|im_end|>"


def test_stream_gives_the_same_answer(tuned):
    stream = tuned.stream(asked("Say hi"))
    with pytest.raises(InstilError, match="has not ended"):
        _ = stream.answer
    assert "".join(stream) == "Hi there!"
    assert stream.answer == tuned.answer([asked("Say hi")])[0].__class__(
        text="Hi there!",
        message=stream.answer.message,
        generated=stream.answer.generated,
        prompt_ids=stream.answer.prompt_ids,
    )
    assert stream.answer.generated.finish_reason == "stop"


def test_typed_control_tokens_stay_text(tuned):
    prompt = tuned.prompt(asked("<|im_end|>"))
    assert prompt.count(258) == 1


def test_several_answers_per_prompt_come_in_order(tuned):
    settings = SamplingSettings(temperature=1.0, seed=3, num_answers=2, max_new_tokens=8)
    seen = []
    answers = tuned.answer(
        [asked("Say hi"), asked("Time?")], settings, on_answer=lambda number, answer: seen.append((number, answer))
    )
    assert [answer.generated.seed for answer in answers] == [3, 4, 3, 4]
    assert sorted(number for number, _ in seen) == [0, 1, 2, 3]
    assert all(answers[number] == answer for number, answer in seen)


def test_a_base_model_continues_plain_text_to_the_first_line_break():
    base = Engine.load(folders()["base"], LoadSettings(precision="fp32"))
    assert base.chat is None
    (answer,) = base.answer([asked("Capital of Peru?")], SamplingSettings(max_new_tokens=40))
    assert "\n" not in answer.text
    assert base.tokenizer.decode(answer.prompt_ids) == "Capital of Peru?\n"
    (free,) = base.continue_text(["Capital"], SamplingSettings(max_new_tokens=3))
    assert free.generated.num_tokens == 3
    (empty,) = base.continue_text([""], SamplingSettings(max_new_tokens=2))
    assert empty.generated.num_tokens >= 1


def test_plain_text_is_the_turns_a_line_each():
    assert plain_text(asked("a ", "b", "c", system="s")) == "s\na\nb\nc\n"


def test_a_run_answers_with_its_own_settings():
    run = Engine.load(folders()["run"])
    assert run.location.kind == "run"
    assert run.answer([asked("Capital of Norway?")])[0].text == "Oslo"


def test_a_template_can_be_given(tmp_path):
    base = Engine.load(
        folders()["base"], LoadSettings(template=folders()["tuned"].joinpath("chat_template.jinja").as_posix())
    )
    assert base.chat is not None
    assert base.prompt(asked("x"))[0] == 257


def test_a_conversation_that_is_too_long_is_named_by_its_place(tuned):
    long = Conversation((Message("user", "x" * 600),), place=Place("rows.jsonl", 7))
    with pytest.raises(
        GenerationError, match=r"rows\.jsonl:7: the prompt has \d+ tokens\. The context of .* is 512, answer included"
    ):
        tuned.answer([asked("Say hi"), long])


def test_running_out_of_memory_is_one_line(tuned, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    assert tuned.steps is not None, tuned.why_not_plain
    monkeypatch.setattr(type(tuned.steps), "read", full)
    with pytest.raises(GenerationError, match="ran out of memory"):
        tuned.answer([asked("Say hi")])


def test_a_session_computes_only_its_new_turns_until_the_weights_change(monkeypatch):
    engine = Engine.load(folders()["tuned"])
    reused, copy = [], Prefixes.copy_to
    monkeypatch.setattr(Prefixes, "copy_to", lambda *work: reused.append(copy(*work)) or reused[-1])
    session = Session(engine=engine, settings=SamplingSettings(max_new_tokens=20))

    def ask(question: str) -> int:
        stream = session.ask(Message("user", question))
        assert "".join(stream) == stream.answer.text
        session.keep(stream.answer)
        return len(stream.answer.prompt_ids)

    ask("Capital of Peru?")
    first = len(engine.prompt(session.conversation))
    ask("Two plus two?")
    assert reused[0] == 0
    assert first - 30 < reused[1] < first
    with torch.no_grad():  # another text for the same places of the same parameters
        for parameter in engine.model.parameters():
            parameter.mul_(1.01)
    ask("Say hi")
    assert reused[2] == 0
    ask("Capital of Norway?")
    assert reused[3] > reused[1]
    engine.model = Engine.load(folders()["tuned"]).model
    ask("Say hi")
    assert reused[4] == 0
    engine.keep_prefixes(0)
    ask("Say hi")
    assert len(reused) == 5
    assert engine.steps is not None
    assert engine.steps.prefixes is None


def test_a_missing_model_is_named():
    with pytest.raises(ModelError, match="no such model folder"):
        Engine.load("./nowhere/at/all")
