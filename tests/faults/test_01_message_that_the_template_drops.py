"""A context message that the template does not print is refused, or its loss is accepted and counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.encoding.both_ways import in_batches, one_by_one
from tests.faults.published import read_json, write_published, write_rows
from tests.generation.http_api.served import Served
from tests.tiny_chat import CHATML, tiny_tokenizer
from tests.training.command_line import exit_code

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.settings import EncodingSettings
from instil.errors import DroppedTextError
from instil.generation.engine import Engine
from instil.generation.settings import LoadSettings

TURN = "{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
END = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"


def knowing(*roles: str) -> str:
    """A template that prints the turns of some roles and passes over all others."""
    return "{% for m in messages %}{% if m.role in " + repr(roles) + " %}" + TURN + "{% endif %}{% endfor %}" + END


FIRST_SYSTEM = (
    "{% if messages[0].role == 'system' %}{% set m = messages[0] %}"
    + TURN
    + "{% endif %}"
    + knowing("user", "assistant")
)
OTHERS_AS_ASSISTANT = (
    "{% for m in messages %}{{ '<|im_start|>' + (m.role if m.role in ('system', 'user') else 'assistant') + '\\n' "
    "+ m.content + '<|im_end|>\\n' }}{% endfor %}" + END
)
CUT_QUESTIONS = CHATML.replace("message['content']", "message['content'][:12]")
TOOL = {"type": "function", "function": {"name": "look_up", "description": "Find a word", "parameters": {"type": "object", "properties": {"word": {"type": "string"}}}}}  # fmt: skip


def chat(template: str, **settings: Any) -> ChatTokenizer:
    return ChatTokenizer.from_tokenizer(tiny_tokenizer(), template, settings=EncodingSettings(**settings))


def talk(*turns: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": text} for role, text in turns], **more}


RULE, ASK, SAY = ("developer", "Only in Greek."), ("user", "Good day"), ("assistant", "Kalimera")
PARTS = {
    "developer": (knowing("user", "assistant"), talk(RULE, ASK, SAY), "message 1 (developer), text: 'Only in Greek.'"),
    "system": (knowing("user", "assistant"), talk(("system", "Be kind."), ASK, SAY), "message 1 (system), text: 'Be kind.'"),
    "second system": (FIRST_SYSTEM, talk(("system", "One."), ("system", "Two."), ASK, SAY), "message 2 (system), text: 'Two.'"),
    "system, then developer": (FIRST_SYSTEM, talk(("system", "One."), RULE, ASK, SAY), "message 2 (developer), text: 'Only in Greek.'"),
    "late system": (FIRST_SYSTEM, talk(ASK, SAY, ("system", "Now."), ASK, SAY), "message 3 (system), text: 'Now.'"),
    "tool": (knowing("user", "assistant"), talk(ASK, ("tool", "a result"), SAY), "message 2 (tool), text: 'a result'"),
    "tool definitions": (CHATML, talk(ASK, SAY, tools=[TOOL]), "tool 1, definition: 'look_up'"),
    "documents": (CHATML, talk(ASK, SAY, documents=[{"title": "t", "text": "A long document."}]), "document 1, text: 'A long document.'"),
    "end of a question": (CUT_QUESTIONS, talk(("user", "Tell me of the sea"), SAY), "message 1 (user), text: 'he sea'"),
    "untrained answer": (
        CHATML.replace("message['content']", "(message.content if loop.index0 != 1 else '')"),
        {"messages": [*talk(ASK)["messages"], {"role": "assistant", "content": "Hm", "weight": 0}, *talk(ASK, SAY)["messages"]]},
        "message 2 (assistant), text: 'Hm'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_what_is_dropped_is_refused_or_accepted_and_counted(name: str) -> None:
    template, row, found = PARTS[name]
    if "documents" in row:
        row = {**{key: row[key] for key in ("messages",)}, "chat_template_kwargs": {"documents": row["documents"]}}
    strict, lenient = chat(template), chat(template, dropped_text="accept")
    with pytest.raises(DroppedTextError) as refused:
        strict.encode(row)
    assert f": {found}" in str(refused.value)
    assert "data.dropped_text: accept" in str(refused.value)
    (example, *_) = lenient.encode(row)
    assert found in example.dropped
    assert lenient.report.dropped_text == len(example.dropped) > 0
    assert all(isinstance(result, str) and found in result for result in in_batches(chat(template), [row] * 3))
    assert in_batches(chat(template, dropped_text="accept"), [row] * 3) == one_by_one(lenient, [row] * 3)
    if name != "untrained answer":  # of the model's own answers, history may be rewritten
        before = {**row, "messages": row["messages"][:-1]}
        with pytest.raises(DroppedTextError, match="does not print all"):
            strict.prompt(before)
        assert lenient.decode(lenient.prompt(before)).endswith("<|im_start|>assistant\n")


@pytest.mark.parametrize("template", [FIRST_SYSTEM, knowing("system", "user", "assistant"), OTHERS_AS_ASSISTANT])
def test_a_developer_message_is_given_as_system_where_the_template_knows_only_that(template: str) -> None:
    row, same = talk(RULE, ASK, SAY, ASK, SAY), talk(("system", RULE[1]), ASK, SAY, ASK, SAY)
    ours = chat(template)
    assert one_by_one(ours, [row]) == one_by_one(ours, [same])
    assert in_batches(ours, [row] * 4) == in_batches(ours, [same] * 4)
    assert ours.report.developer_as_system == 5
    assert ours.prompt(row["messages"][:2]) == ours.prompt(same["messages"][:2])
    assert "Only in Greek." in ours.decode(ours.prompt(row["messages"][:2]))
    assert "a developer message (given as system)" in ours.prove().not_carried


def test_a_template_that_knows_developers_receives_them() -> None:
    ours = chat(CHATML)
    assert "<|im_start|>developer\nOnly in Greek." in ours.decode(ours.encode(talk(RULE, ASK, SAY))[0].token_ids)
    assert ours.report.developer_as_system == 0


def test_a_system_and_a_developer_text_are_both_printed_where_the_template_takes_two() -> None:
    ours = chat(knowing("system", "user", "assistant"))
    text = ours.decode(ours.encode(talk(("system", "One."), RULE, ASK, SAY))[0].token_ids)
    assert text.startswith("<|im_start|>system\nOne.<|im_end|>\n<|im_start|>system\nOnly in Greek.<|im_end|>\n")
    assert ours.report.developer_as_system == 1


KEPT = {
    "white space at the ends": (CHATML.replace("message['content']", "message.content | trim"), talk(("user", " \n Hi\t"), SAY)),
    "a switch that the template reads": (
        CHATML.replace("message['content']", "message.content.replace('/no_think', '')"),
        talk(("system", "Be kind. /no_think"), ASK, SAY),
    ),
    "text printed without its origin": (CHATML.replace("message['content']", "(message.content | pprint if message.role == 'tool' else message.content)"), talk(ASK, ("tool", "25"), SAY)),
    "text wrapped anew": (CHATML.replace("message['content']", "(message.content | wordwrap(20) if message.role == 'user' else message.content)"), talk(("user", "How far is it to Larissa?"), SAY)),
    "parts": (CHATML, {"messages": [{"role": "user", "content": [{"type": "text", "text": "One"}, {"type": "text", "text": "Two"}]}, {"role": "assistant", "content": "Three"}]}),
    "old reasoning": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.reasoning_content and loop.last %}"
        "{{ '<think>' + m.reasoning_content + '</think>' }}{% endif %}{{ m.content + '<|im_end|>\\n' }}{% endfor %}" + END,
        {"messages": [{"role": role, "content": text, **({"reasoning": "Hm."} if role == "assistant" else {})} for role, text in (ASK, SAY, ASK, SAY)]},
    ),
    "tools printed once": (
        "{% for m in messages %}{% if loop.last and tools %}{{ tools | tojson(indent=2) }}{% endif %}" + TURN + "{% endfor %}" + END,
        talk(ASK, SAY, ASK, SAY, tools=[TOOL]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_what_a_template_rewrites_is_no_loss(name: str) -> None:
    template, row = KEPT[name]
    ours = chat(template)
    examples = ours.encode(row)
    assert examples
    assert not any(example.dropped for example in examples)
    assert ours.prompt({**row, "messages": row["messages"][:-1]})


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_published(tmp_path_factory.mktemp("base") / "base", config={}, generation=None)
    settings = read_json(folder / "tokenizer_config.json")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": FIRST_SYSTEM}), "utf-8")
    return folder


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Four sound rows, one with a developer message, and one whose second system text is lost."""
    path = write_rows(tmp_path / "rows.jsonl")
    lost = [talk(RULE, ASK, SAY), talk(("system", "One."), ("system", "Two."), ASK, SAY)]
    path.write_text(path.read_text("utf-8") + "".join(json.dumps(row) + "\n" for row in lost), "utf-8")
    return path


@pytest.mark.slow
def test_inspect_lists_the_rows_with_their_places(base: Path, rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exit_code("inspect", str(rows), "--model", str(base), "--json")
    report = json.loads(capsys.readouterr().out)
    (finding,) = [finding for finding in report["findings"]["kept"] if finding["kind"] == "dropped_text"]
    assert finding["severity"] == "error"
    assert finding["place"].endswith("rows.jsonl:6")
    assert "'Two.'" in finding["seen"]
    assert any("1 developer message is given to the template as system" in note for note in report["ledger"]["notes"])
    exit_code("inspect", str(rows), "--model", str(base), "--data.dropped_text", "accept", "--json")
    report = json.loads(capsys.readouterr().out)
    assert [finding["place"][-12:] for finding in report["findings"]["kept"] if finding["kind"] == "accepted_loss"] == [
        "rows.jsonl:6"
    ]
    exit_code("inspect", str(rows), "--model", str(base), "--row", "6")
    assert "error: text that the template does not print" in capsys.readouterr().out


def write_recipe(base: Path, rows: Path) -> str:
    path = rows.parent / "recipe.yaml"
    path.write_text(
        f"model: {{name: {base}}}\ndata: {{sources: [{rows}], heldout_share: 0.0, store: {rows.parent / 'store'}}}\n"
        f"training: {{max_steps: 1, batch_size: 4, precision: fp32}}\noutput: {rows.parent / 'run'}\n",
        encoding="utf-8",
    )
    return str(path)


@pytest.mark.parametrize("verb", ["train", "prepare"])
def test_training_refuses_the_row_with_its_place(
    verb: str, base: Path, rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(verb, write_recipe(base, rows)) == 2
    error = capsys.readouterr().err
    assert "rows.jsonl:6: the template does not print all of the conversation" in error
    assert "Traceback" not in error
    assert not (rows.parent / "run" / "checkpoints").exists()


@pytest.mark.slow
def test_the_ledger_counts_what_is_left_out_and_what_is_accepted(base: Path, rows: Path) -> None:
    recipe = write_recipe(base, rows)
    assert exit_code("train", recipe, "--data.on_bad_row", "skip") == 0
    run = rows.parent / "run"
    ledger = (
        read_json(run / "ledger.json")["train"]
        if "train" in read_json(run / "ledger.json")
        else read_json(run / "ledger.json")
    )
    assert ledger["left_out"]["template drops text"]["count"] == 1
    assert exit_code("train", recipe, "--data.dropped_text", "accept", "--output", str(rows.parent / "lenient")) == 0
    saved = (rows.parent / "lenient" / "recipe.yaml").read_text("utf-8")
    assert "dropped_text: accept" in saved
    # The run's own setting holds where it answers, and an option overrides it.
    lost = [
        {"role": "system", "content": "One."},
        {"role": "system", "content": "Two."},
        {"role": "user", "content": "Hi"},
    ]
    kind = Engine.load(rows.parent / "lenient")
    assert kind.chat is not None
    assert kind.chat.prompt(lost)
    strict = Engine.load(rows.parent / "lenient", LoadSettings(dropped_text="refuse"))
    with pytest.raises(DroppedTextError):
        strict.chat.prompt(lost)  # type: ignore[union-attr]


def test_answers_refuse_what_the_template_drops(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(json.dumps(talk(("system", "One."), ("system", "Two."), ASK)) + "\n", "utf-8")
    words = [
        "generate",
        str(base),
        "--prompts",
        str(prompts),
        "--out",
        str(tmp_path / "out.jsonl"),
        "--max-new-tokens",
        "2",
    ]
    assert exit_code(*words) == 2
    error = capsys.readouterr().err
    assert "prompts.jsonl:1: the template does not print" in error
    assert "Traceback" not in error
    assert exit_code(*words, "--dropped-text", "accept") == 0


@pytest.mark.slow
def test_serve_answers_400_to_a_message_that_the_template_drops(base: Path) -> None:
    with Served(Engine.load(base)) as served:
        client = served.client()

        def ask(*turns: tuple[str, str]) -> Any:
            return client.chat.completions.create(model="tiny", messages=talk(*turns)["messages"], max_tokens=1)

        assert ask(RULE, ASK).usage.prompt_tokens == ask(("system", RULE[1]), ASK).usage.prompt_tokens
        assert ask(RULE, ASK).usage.prompt_tokens > ask(ASK).usage.prompt_tokens
        with pytest.raises(openai.BadRequestError, match=r"message 2 \(system\), text: 'Two.'"):
            ask(("system", "One."), ("system", "Two."), ASK)
