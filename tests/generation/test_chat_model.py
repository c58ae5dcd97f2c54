"""A model asked from Python: the same ids and answers as the commands, from folders and from models in hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.tiny_chat import FACTS, folders, tiny_llama, tiny_tokenizer
from tests.training.command_line import make_base

import instil
from instil.api.models import load_model
from instil.conversation import Conversation, Message
from instil.generation.chat_model import ChatModel
from instil.generation.engine import Engine
from instil.generation.settings import LoadSettings

QUESTION = {"role": "user", "content": "Two plus two?"}


@pytest.fixture(scope="module")
def tuned() -> ChatModel:
    return load_model(folders()["tuned"], device="cpu")


def begun(text: str) -> list[dict[str, str]]:
    return [QUESTION, {"role": "assistant", "content": text}]


def test_a_text_a_history_and_a_conversation_are_asked_alike(tuned: ChatModel) -> None:
    answer = tuned.chat("Capital of Peru?")
    assert (str(answer), answer.content) == ("Lima", "Lima")
    asked: list[Any] = [
        [{"role": "user", "content": "Capital of Peru?"}],
        Message("user", "Capital of Peru?"),
        {"messages": [{"role": "user", "content": "Capital of Peru?"}]},
        Conversation((Message("user", "Capital of Peru?"),)),
    ]
    for messages in asked:
        assert tuned.chat(messages) == answer
    history = [*asked[0], answer.message, {"role": "user", "content": "Say hi"}]
    turns = (Message("user", "Capital of Peru?"), Message("assistant", "Lima"), Message("user", "Say hi"))
    assert list(tuned.chat(history).prompt_ids) == tuned.engine.prompt(Conversation(turns))


def test_many_prompts_are_answered_in_order(tuned: ChatModel) -> None:
    seen: list[int] = []
    questions = [question for question, _ in FACTS]
    answers = tuned.answer((q for q in questions), on_answer=lambda number, _: seen.append(number))
    assert [answer.text for answer in answers] == [answer for _, answer in FACTS]
    assert sorted(seen) == list(range(len(FACTS)))
    row = [{"role": "user", "content": "Say hi"}, {"role": "assistant", "content": "never shown"}]
    assert [str(answer) for answer in tuned.answer([row])] == ["Hi there!"]
    assert tuned.answer([]) == []
    drawn = tuned.answer(["Say hi"], temperature=1.0, seed=3, num_answers=2, max_new_tokens=3)
    assert [answer.generated.seed for answer in drawn] == [3, 4]


def test_a_stream_gives_the_pieces_and_then_the_answer(tuned: ChatModel) -> None:
    stream = tuned.stream("Think")
    assert "".join(stream) == "<think>\nhm hm\n</think>\n\nYes"
    assert stream.answer.message == tuned.chat("Think").message
    assert stream.answer.message.reasoning == "hm hm"


def test_a_begun_answer_is_continued_and_its_message_is_the_whole_turn(tuned: ChatModel) -> None:
    whole = tuned.chat([QUESTION])
    answer = tuned.chat(begun("So 2+2"), continue_final_message=True)
    assert answer.text == "=4\n#### 4"
    assert (answer.content, answer.message) == (whole.content, whole.message)
    stream = tuned.stream(begun("So 2+2"), continue_final_message=True)
    assert "".join(stream) == "=4\n#### 4"
    assert (stream.answer.text, stream.answer.message) == (answer.text, answer.message)
    assert tuned.answer([begun("So 2+2"), begun("So")], continue_final_message=True)[0] == answer
    thinking = [{"role": "user", "content": "Think"}, {"role": "assistant", "content": "<think>\nhm"}]
    assert tuned.chat(thinking, continue_final_message=True).message == tuned.chat("Think").message


def test_a_base_without_a_template_continues_text() -> None:
    base = load_model(folders()["base"], device="cpu")
    assert base.tokenizer is None
    answer = base.chat(begun("So"), continue_final_message=True, max_new_tokens=4)
    assert base.engine.tokenizer.decode(answer.prompt_ids) == "Two plus two?\nSo"
    assert answer.content == "So" + answer.text
    with pytest.raises(instil.InstilError, match="found no begun answer at its end"):
        base.chat("Hi", continue_final_message=True)


def rows_of(model: Any) -> list[torch.Tensor]:
    return [model.get_input_embeddings().weight.detach(), model.get_output_embeddings().weight.detach()]


def test_a_template_is_added_as_in_a_run(tmp_path: Any) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = make_base(tmp_path / "base")
    named = Engine.load(base, LoadSettings(template="chatml"))
    from_folder = load_model(base)
    change = from_folder.add_chat_template("chatml")
    in_hand = load_model(AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base))
    assert in_hand.tokenizer is None
    assert in_hand.add_chat_template("chatml") == change
    assert change.new_ids
    own = instil.ChatTokenizer.from_pretrained(str(base))
    assert own.stop_ids
    for model in (from_folder, in_hand):
        assert model.tokenizer is not None
        assert model.tokenizer.encode(begun("4")) == own.encode(begun("4"))
        assert model.tokenizer.stop_ids == model.engine.stop_ids == own.stop_ids
        for ours, theirs in zip(rows_of(model.module), rows_of(named.model), strict=True):
            assert torch.equal(ours, theirs)
        assert model.module.generation_config.eos_token_id == named.model.generation_config.eos_token_id
        assert model.chat("Hi", max_new_tokens=2).generated.num_tokens >= 1
    assert not torch.equal(
        rows_of(load_model(base).module)[0][:1].repeat(2, 1), rows_of(in_hand.module)[0][-2:]
    )  # new rows are drawn, not copied


def test_a_model_in_hand_with_a_template_answers_as_from_its_folder(tuned: ChatModel) -> None:
    in_hand = load_model(tuned.module, tuned.engine.tokenizer)
    assert in_hand.chat("Say hi") == tuned.chat("Say hi")
    assert "template" in repr(in_hand)


def test_the_training_mode_of_a_model_in_hand_is_restored() -> None:
    model = tiny_llama(layers=1).train()
    load_model(model, tiny_tokenizer()).chat("Hi", max_new_tokens=1)
    assert model.training


class NoGeneration(torch.nn.Module):
    pass


@pytest.mark.parametrize(
    "messages", [None, 5, b"Hi", "", [], {}, [5], [None], [b"x"], object(), {"messages": None}, [{}]]
)
def test_what_is_no_message_is_refused(tuned: ChatModel, messages: Any) -> None:
    for call in (tuned.chat, tuned.stream):
        with pytest.raises(instil.InstilError):
            call(messages)
    with pytest.raises(instil.InstilError):
        tuned.answer([messages])


@pytest.mark.parametrize("prompts", [None, 5, "Hi", b"Hi", {"messages": []}, object(), ["Hi", None]])
def test_what_is_no_list_of_prompts_is_refused(tuned: ChatModel, prompts: Any) -> None:
    with pytest.raises(instil.InstilError, match=r"^prompts"):
        tuned.answer(prompts)


@pytest.mark.parametrize(
    "keywords",
    [
        {"temperature": "hot"}, {"temperature": None}, {"temperature": float("nan")}, {"temperature": True},
        {"top_k": 2.5}, {"top_p": "1"}, {"max_new_tokens": None}, {"max_new_tokens": 1.0}, {"seed": "a"}, {"stop": 5},
        {"stop": [""]}, {"stop": b"x"}, {"temprature": 1}, {"tools": 5}, {"tools": [5]}, {"variables": 5},
        {"num_answers": 2}, {"repetition_penalty": []},
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_keyword_is_refused_with_its_name(tuned: ChatModel, keywords: dict[str, Any]) -> None:
    (name,) = keywords
    with pytest.raises(instil.InstilError, match=f"^{name}"):
        tuned.chat("Hi", **keywords)


@pytest.mark.parametrize(
    ("arguments", "keywords"),
    [
        ((None,), {}), ((5,), {}), ((b"demo",), {}), (([],), {}), (("",), {}), (("no/such",), {}), ((object(),), {}),
        ((NoGeneration(),), {}), ((NoGeneration(), 5), {}), (("demo", tiny_tokenizer()), {}),
        (("demo",), {"load": "3bit"}), (("demo",), {"device": 5}), (("demo",), {"device": "gpu"}),
        (("demo",), {"precision": 16}), (("demo",), {"template": 5}), (("demo",), {"template": "no-such"}),
        (("demo",), {"revision": 5}), (("demo",), {"trust_remote_code": "yes"}), (("demo",), {"dtype": "bf16"}),
        ((tiny_llama(layers=1), None), {}), ((tiny_llama(layers=1), "demo"), {}),
        ((tiny_llama(layers=1), tiny_tokenizer()), {"device": "cpu"}),
    ],
)  # fmt: skip
def test_what_is_no_model_is_refused(arguments: Any, keywords: dict[str, Any]) -> None:
    with pytest.raises(instil.InstilError):
        load_model(*arguments, **keywords)


@pytest.mark.parametrize("arguments", [(None,), (5,), ("no-such-template",), ("",), (b"chatml",)])
def test_what_is_no_template_is_refused_and_changes_nothing(arguments: Any) -> None:
    base = load_model(tiny_llama(layers=1), tiny_tokenizer(template=False))
    rows = rows_of(base.module)[0].shape
    with pytest.raises(instil.InstilError):
        base.add_chat_template(*arguments)
    assert base.tokenizer is None
    assert rows_of(base.module)[0].shape == rows


def test_a_prompt_that_is_too_long_is_named_or_shortened(tuned: ChatModel) -> None:
    long = [{"role": "user", "content": "x" * 600}]
    with pytest.raises(instil.InstilError, match=r"prompts:2: the prompt has \d+ tokens"):
        tuned.answer(["Say hi", long])
    history = [*long, {"role": "assistant", "content": "y"}, {"role": "user", "content": "Say hi"}]
    assert [str(answer) for answer in tuned.answer([history], too_long="keep_last_turns")] == ["Hi there!"]
    with pytest.raises(instil.InstilError, match="even its last turn"):
        tuned.answer([long], too_long="keep_last_turns")
    with pytest.raises(instil.InstilError, match=r"^too_long"):
        tuned.answer(["Hi"], too_long="drop")  # type: ignore[arg-type]
    with pytest.raises(instil.InstilError, match="ends with an answer"):
        tuned.chat([QUESTION, {"role": "assistant", "content": "4"}])
