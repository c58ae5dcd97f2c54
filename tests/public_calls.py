"""Every public call with one argument that may be anything, for `test_public_names`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.tiny_chat import tiny_tokenizer

import instil
from instil.api.inspecting import Inspected
from instil.preparation.store import ExampleStore

ROOT = Path(__file__).resolve().parents[1]
FILE = "rows.txt"
"""A file in the working folder that is no data, and that calls may write to."""
WRONG: list[Any] = [
    None, True, 0, -1, 10**400, 3.5, float("nan"), b"bytes", bytearray(b"x"), "", "./no/such/file", "nul\0", "\ud800", [], [None], [5], [b"x"],
    {}, {"a": 1}, {5: 6}, {"messages": 5}, {"role": "assistant", "content": 5}, (), set(), object(), object, len, range(3), Path("no/such/folder"), Path("."), Path(FILE),
]  # fmt: skip
TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
ROWS = str(ROOT / "tests" / "no-rows.jsonl")
VERBS = (instil.train, instil.prepare, instil.plan, instil.inspect)
ARGUMENTS = {
    instil.train: ("resume", "quiet", "follow", "training", "optimizer.lr", "output"),
    instil.prepare: ("workers", "refresh", "data.format"),
    instil.plan: ("quiet", "data.heldout"),
    instil.inspect: ("template", "keep_rows", "data.format"),
}


@dataclass(frozen=True, slots=True)
class Things:
    """What methods are called on."""

    chat: instil.ChatTokenizer
    model: Any
    run: instil.Run
    store: ExampleStore
    inspected: Inspected


def _item(view: Any, wrong: Any) -> Any:
    try:
        return view[wrong]
    except IndexError:  # how Python finds the end of a sequence
        return None


def _no_function(wrong: Any) -> Any:
    """Return a value that is no function; what a caller's own function raises is the caller's."""
    return None if callable(wrong) else wrong


def _calling(**fields: Any) -> list[Any]:
    call = instil.ToolCall(**{"name": "f", "arguments": {}, **fields})
    return [TALK[0], instil.Message("assistant", None, tool_calls=(call,))]


CALLS: dict[str, Callable[[Things, Any], Any]] = {
    "ChatTokenizer.from_pretrained": lambda _, wrong: instil.ChatTokenizer.from_pretrained(wrong),
    "ChatTokenizer.from_pretrained template": lambda _, wrong: instil.ChatTokenizer.from_pretrained("demo", wrong),
    "ChatTokenizer.from_pretrained settings": lambda _, wrong: instil.ChatTokenizer.from_pretrained("demo", settings=wrong),
    "ChatTokenizer.from_pretrained revision": lambda _, wrong: instil.ChatTokenizer.from_pretrained("demo", revision=wrong),
    "ChatTokenizer.from_tokenizer": lambda _, wrong: instil.ChatTokenizer.from_tokenizer(wrong),
    "ChatTokenizer.from_tokenizer template": lambda _, wrong: instil.ChatTokenizer.from_tokenizer(tiny_tokenizer(), wrong),
    "encode": lambda its, wrong: its.chat.encode(wrong),
    "encode train_on": lambda its, wrong: its.chat.encode(TALK, wrong),
    "encode_many": lambda its, wrong: its.chat.encode_many(wrong),
    "prompt": lambda its, wrong: its.chat.prompt(wrong),
    "prompt tools": lambda its, wrong: its.chat.prompt(TALK[:1], wrong),
    "prompt begun": lambda its, wrong: its.chat.prompt([TALK[0], {"role": "assistant", "content": wrong}], continue_final_message=True),
    "begun_answer": lambda its, wrong: its.chat.begun_answer(wrong),
    "render": lambda its, wrong: its.chat.render(wrong),
    "explain": lambda its, wrong: its.chat.explain(wrong),
    "explain_prompt": lambda its, wrong: its.chat.explain_prompt(wrong),
    "decode": lambda its, wrong: its.chat.decode(wrong),
    "with_settings": lambda its, wrong: its.chat.with_settings(wrong),
    "message content": lambda its, wrong: its.chat.encode([TALK[0], {"role": "assistant", "content": wrong}]),
    "message role": lambda its, wrong: its.chat.encode([{"role": wrong, "content": "x"}]),
    "load_model": lambda _, wrong: instil.load_model(wrong),
    "Run.open": lambda _, wrong: instil.Run.open(wrong),
    "read": lambda _, wrong: instil.read(wrong),
    "report": lambda _, wrong: instil.report(wrong),
    "report out": lambda its, wrong: instil.report(its.run, wrong),
    "sweep": lambda _, wrong: instil.sweep(wrong, {"optimizer.lr": [1, 2]}, output=FILE),
    "sweep over": lambda _, wrong: instil.sweep({"output": FILE}, wrong, data=ROWS),
    "sweep values": lambda _, wrong: instil.sweep({"output": FILE}, {"optimizer.lr": wrong}, data=ROWS),
    "sweep texts": lambda _, wrong: instil.sweep({"output": FILE}, {"model.name": [wrong, "no/model"]}, data=ROWS),
    "sweep settings": lambda _, wrong: instil.sweep({"output": FILE}, data=ROWS, **{"optimizer.lr": wrong}),
    "sweep best_by": lambda _, wrong: instil.sweep({"output": FILE}, {"optimizer.lr": [1, 2]}, data=ROWS, best_by=wrong),
    "sweep direction": lambda _, wrong: instil.sweep({"output": FILE}, {"optimizer.lr": [1, 2]}, data=ROWS, direction=wrong),
    "sweep search": lambda _, wrong: instil.sweep({"output": FILE}, {"optimizer.lr": "1..2"}, data=ROWS, search=wrong),
    "sweep trials": lambda _, wrong: instil.sweep({"output": FILE}, {"optimizer.lr": "1..2"}, data=ROWS, trials=wrong),
    "sweep resume": lambda _, wrong: instil.sweep({"output": FILE}, {"optimizer.lr": [1, 2]}, data=ROWS, resume=wrong),
    "Sweep.open": lambda _, wrong: instil.Sweep.open(wrong),
    "runs": lambda _, wrong: instil.runs(wrong),
    "runs sort": lambda its, wrong: instil.runs(its.run.folder, sort=wrong),
    "runs last": lambda its, wrong: instil.runs(its.run.folder, last=wrong),
    "evaluate model": lambda _, wrong: instil.evaluate(wrong, "no-rows.jsonl"),
    "evaluate data": lambda _, wrong: instil.evaluate("no/model", wrong),
    "evaluate tasks": lambda _, wrong: instil.evaluate("no/model", ROWS, tasks=wrong),
    "evaluate against": lambda _, wrong: instil.evaluate("no/model", ROWS, against=wrong),
    "evaluate turns": lambda _, wrong: instil.evaluate("no/model", ROWS, turns=wrong),
    "evaluate limit": lambda _, wrong: instil.evaluate("no/model", ROWS, limit=wrong),
    "evaluate too_long": lambda _, wrong: instil.evaluate("no/model", ROWS, too_long=wrong),
    "evaluate schema": lambda _, wrong: instil.evaluate("no/model", ROWS, schema=wrong),
    "evaluate run_code": lambda _, wrong: instil.evaluate("no/model", ROWS, run_code=wrong),
    "evaluate out": lambda _, wrong: instil.evaluate("no/model", ROWS, out=wrong),
    "evaluate temperature": lambda _, wrong: instil.evaluate("no/model", ROWS, temperature=wrong),
    "evaluate on_answer": lambda _, wrong: instil.evaluate("no/model", ROWS, on_answer=_no_function(wrong)),
    "evaluate device": lambda _, wrong: instil.evaluate("no/model", ROWS, device=wrong),
    "export model": lambda _, wrong: instil.export(wrong, "no-such-out"),
    "export out": lambda _, wrong: instil.export("no/model", wrong),
    "export target": lambda _, wrong: instil.export("no/model", "no-such-out", target=wrong),
    "export dtype": lambda _, wrong: instil.export("no/model", "no-such-out", dtype=wrong),
    "export data": lambda _, wrong: instil.export("no/model", "no-such-out", data=wrong),
    "export device": lambda _, wrong: instil.export("no/model", "no-such-out", device=wrong),
    "export licence": lambda _, wrong: instil.export("no/model", "no-such-out", licence=wrong),
    "export push": lambda _, wrong: instil.export("no/model", "no-such-out", push=wrong),
    "export tags": lambda _, wrong: instil.export("no/model", "no-such-out", push="me/model", tags=wrong),
    "export every_checkpoint": lambda _, wrong: instil.export("no/model", "no-such-out", every_checkpoint=wrong),
    "export check_with": lambda _, wrong: instil.export("no/model", "no-such-out", check_with=wrong),
    "Conversation": lambda _, wrong: instil.Conversation(wrong),
    "Conversation messages": lambda _, wrong: instil.Conversation([TALK[0], wrong]),
    "Conversation content": lambda _, wrong: instil.Conversation([{"role": "assistant", "content": wrong}]),
    "Conversation calls": lambda _, wrong: instil.Conversation([{"role": "assistant", "tool_calls": wrong}]),
    "Conversation part": lambda _, wrong: instil.Conversation([{"role": "assistant", "content": [wrong]}]),
    "Conversation weight": lambda _, wrong: instil.Conversation([{**TALK[1], "weight": wrong}]),
    "Conversation train": lambda _, wrong: instil.Conversation([{**TALK[1], "train": wrong}]),
    "Conversation reasoning": lambda _, wrong: instil.Conversation([{**TALK[1], "reasoning": wrong}]),
    "Conversation tools": lambda its, wrong: its.chat.encode(instil.Conversation(TALK, wrong)),
    "Conversation variables": lambda its, wrong: its.chat.encode(instil.Conversation(TALK, variables=wrong)),
    "Conversation place": lambda its, wrong: its.chat.encode(instil.Conversation(TALK, place=wrong)),
    "Conversation plain": lambda its, wrong: its.chat.encode(instil.Conversation(TALK, plain=wrong)),
    "Conversation extra": lambda its, wrong: its.chat.encode(instil.Conversation(TALK, extra=wrong)),
    "Conversation repr": lambda _, wrong: repr(instil.Conversation([{"role": "user", "content": wrong}])),
    "Message role": lambda _, wrong: instil.Message(wrong, "x"),
    "Message content": lambda its, wrong: its.chat.encode([instil.Message("user", "x"), instil.Message("assistant", wrong)]),
    **{
        f"Message {name}": lambda its, wrong, name=name: its.chat.encode([TALK[0], instil.Message("assistant", "x", **{name: wrong})])
        for name in ("reasoning", "tool_calls", "tool_call_id", "name", "weight", "extra", "reasoning_name", "part_weights")
    },
    **{
        f"ToolCall {name}": lambda its, wrong, name=name: its.chat.encode(_calling(**{name: wrong}))
        for name in ("name", "arguments", "id", "extra")
    },
    "Example token_ids": lambda _, wrong: instil.Example(wrong, [0.0]),
    "Example weights": lambda _, wrong: instil.Example([5], wrong),
    "Example id": lambda _, wrong: instil.Example([5, wrong], [0.0, 1.0]).to_tensors(),
    "Example weight": lambda _, wrong: instil.Example([5, 6], [0.0, wrong]).labels(),
    "Example repr": lambda _, wrong: repr(instil.Example([5, wrong], [0.0, 1.0])),
    "Example labels": lambda _, wrong: instil.Example([5, 6], [0.0, 1.0]).labels(wrong),
    "Place": lambda _, wrong: instil.Place(wrong, 1),
    "Place row": lambda _, wrong: instil.Place("a.jsonl", wrong),
    "collate_padded": lambda _, wrong: instil.collate_padded(wrong),
    "collate_padded example": lambda _, wrong: instil.collate_padded([instil.Example([5], [0.0]), wrong]),
    "collate_padded tensors": lambda _, wrong: instil.collate_padded([{"input_ids": wrong, "labels": wrong, "weights": wrong}]),
    "collate_padded pad_id": lambda _, wrong: instil.collate_padded([instil.Example([5], [0.0])], pad_id=wrong),
    "collate_flat": lambda _, wrong: instil.collate_flat(wrong),
    "collate_flat example": lambda _, wrong: instil.collate_flat([instil.Example([5], [0.0]), wrong]),
    "collate_flat tensors": lambda _, wrong: instil.collate_flat([{"input_ids": wrong, "labels": wrong, "weights": wrong}]),
    "store.to_torch index": lambda its, wrong: _item(its.store.to_torch(), wrong),
    "store index": lambda its, wrong: _item(its.store, wrong),
    "inspected.row": lambda its, wrong: its.inspected.row(wrong),
    "inspected.write_page": lambda its, wrong: its.inspected.write_page(wrong),
    "write": lambda _, wrong: instil.write(wrong, "no/such/folder/rows.txt"),
    "write row": lambda _, wrong: instil.write([wrong], "no/such/folder/rows.txt"),
    "write path": lambda _, wrong: instil.write([{"messages": [TALK[0], 5]}], wrong),
    "write model": lambda _, wrong: instil.write([TALK], "no/such/folder/rows.txt", format="chatml-text", model=wrong),
    "write template": lambda _, wrong: instil.write([TALK], "rows.txt", format="template-text", template=wrong),
    "write format": lambda _, wrong: instil.write([TALK], "rows.txt", format=wrong),
    "read format": lambda _, wrong: instil.read([TALK], wrong),
    "read rows": lambda _, wrong: instil.read([wrong]),
    "read cell": lambda _, wrong: instil.read([{"question": "1+1?", "answer": wrong}]),
    **{
        f"read {name}": lambda _, wrong, name=name: instil.read([TALK], **{name: wrong})
        for name in ("columns", "prompt_completion", "on_bad_row", "on_error")
    },
    **{
        f"read file {name}": lambda _, wrong, name=name: instil.read(FILE, **{name: wrong})
        for name in ("split", "subset", "revision", "encoding", "delimiter", "sheet")
    },
    "Recipe": lambda _, wrong: instil.Recipe(training=wrong),
    "Recipe key": lambda _, wrong: instil.Recipe(trainin=wrong),
    "Recipe.from_mapping": lambda _, wrong: instil.Recipe.from_mapping(wrong),
    "Recipe.from_mapping group": lambda _, wrong: instil.Recipe.from_mapping({"data": wrong}),
    "Recipe.from_mapping setting": lambda _, wrong: instil.Recipe.from_mapping({"optimizer.lr": wrong}),
    "Recipe.from_mapping sources": lambda _, wrong: instil.Recipe.from_mapping({"data.sources": wrong}),
    "Recipe.from_mapping output": lambda _, wrong: instil.Recipe.from_mapping({"output": wrong}),
    "Recipe.load": lambda _, wrong: instil.Recipe.load(wrong),
    "Recipe.load overrides": lambda _, wrong: instil.Recipe.load("no.yaml", wrong),
    "Recipe.load_saved": lambda _, wrong: instil.Recipe.load_saved(wrong),
    "Recipe.override": lambda _, wrong: instil.Recipe().override(wrong),
    "Recipe.override setting": lambda _, wrong: instil.Recipe().override({"training": {"max_steps": wrong}}),
    "Recipe.save": lambda _, wrong: instil.Recipe().save(wrong),
    **{f"{verb.__name__}": lambda _, wrong, verb=verb: verb(wrong) for verb in VERBS},
    **{f"{verb.__name__} data": lambda _, wrong, verb=verb: verb(data=wrong, model="no/model") for verb in VERBS},
    **{f"{verb.__name__} row": lambda _, wrong, verb=verb: verb(data=[wrong], model="no/model") for verb in VERBS},
    **{f"{verb.__name__} model": lambda _, wrong, verb=verb: verb(data=[{"x": 1}], model=wrong) for verb in VERBS},
    **{
        f"{verb.__name__} {name}": lambda _, wrong, verb=verb, name=name: verb(data=[{"text": "x"}], model="no/model", **{name: wrong})
        for verb, names in ARGUMENTS.items()
        for name in names
    },
    "run.plot": lambda its, wrong: its.run.plot(wrong),
    "load_model tokenizer": lambda its, wrong: instil.load_model(its.model.module, wrong),
    **{
        f"load_model {name}": lambda _, wrong, name=name: instil.load_model("no/model", **{name: wrong})
        for name in ("load", "device", "precision", "revision", "template", "trust_remote_code")
    },
    "model.chat": lambda its, wrong: its.model.chat(wrong, max_new_tokens=1),
    "model.chat message": lambda its, wrong: its.model.chat([wrong], max_new_tokens=1),
    "model.stream": lambda its, wrong: its.model.stream(wrong, max_new_tokens=1),
    "model.answer": lambda its, wrong: its.model.answer(wrong, max_new_tokens=1),
    "model.answer prompt": lambda its, wrong: its.model.answer(["Hi", wrong], max_new_tokens=1),
    "model.answer too_long": lambda its, wrong: its.model.answer(["Hi"], too_long=wrong, max_new_tokens=1),
    "model.answer on_answer": lambda its, wrong: its.model.answer(["Hi"], on_answer=_no_function(wrong), max_new_tokens=1),
    "model.answer continued": lambda its, wrong: its.model.answer([TALK], continue_final_message=wrong, max_new_tokens=1),
    **{
        f"model.chat {name}": lambda its, wrong, name=name: its.model.chat("Hi", **{"max_new_tokens": 1, name: wrong})
        for name in ("tools", "variables", "continue_final_message", "temperature", "top_p", "top_k", "seed", "stop", "num_answers")
    },
    "model.chat max_new_tokens": lambda its, wrong: its.model.chat("Hi", max_new_tokens=min(wrong, 2) if isinstance(wrong, int) else wrong),
    "model.add_chat_template": lambda its, wrong: its.model.add_chat_template(wrong),
    "model.add_chat_template stop_token": lambda its, wrong: its.model.add_chat_template("chatml", stop_token=wrong),
    "model.add_chat_template seed": lambda its, wrong: its.model.add_chat_template("chatml", seed=wrong),
}  # fmt: skip
