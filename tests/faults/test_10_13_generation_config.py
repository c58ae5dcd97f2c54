"""Further eos ids of a base are stopped on and kept, and an explicit do_sample: false stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.faults.published import read_json, write_published, write_rows
from tests.faults.test_04_transformers_4 import trained
from tests.tiny_chat import tiny_llama, tiny_tokenizer
from tests.training.command_line import exit_code

from instil.conversation import Conversation, Message
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.generation.engine import Engine
from instil.generation.settings import SamplingSettings

SEVERAL = [258, 256]


@pytest.mark.slow
@pytest.mark.parametrize("where", ["generation_config", "config"])
@pytest.mark.parametrize("adapter", [pytest.param(False, marks=pytest.mark.long), True])
def test_a_run_stops_on_every_id_of_its_base_and_keeps_them(adapter: bool, where: str, tmp_path: Path) -> None:
    generation = {"eos_token_id": SEVERAL} if where == "generation_config" else None
    base = write_published(tmp_path / "base", config={"eos_token_id": SEVERAL}, generation=generation)
    run = trained(base, tmp_path, *(["--adapter.kind", "lora", "--adapter.rank", "2"] if adapter else []))
    assert read_json(run / "model" / "generation_config.json")["eos_token_id"] == SEVERAL
    for name in (run, run / "model", base, *([run / "adapter"] if adapter else [])):
        assert Engine.load(name).stop_ids == (258, 256), name
    if not adapter:
        assert exit_code("export", str(run), str(tmp_path / "out"), "--dtype", "fp32") == 0
        assert read_json(tmp_path / "out" / "generation_config.json")["eos_token_id"] == SEVERAL


@pytest.mark.slow
def test_an_answer_ends_at_a_further_id(tmp_path: Path) -> None:
    """A model that has learned to write on behind ``<|endoftext|>`` is stopped there, as in transformers."""
    model, tokenizer = tiny_llama(), tiny_tokenizer()
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": "Say bye"}], add_generation_prompt=True)
    prompt = list(prompt["input_ids"] if not isinstance(prompt, list) else prompt)
    answer = tokenizer("Bye<|endoftext|>and more<|im_end|>", add_special_tokens=False)["input_ids"]
    ids = torch.tensor([prompt + answer])
    labels = torch.tensor([[-100] * len(prompt) + answer])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(60):
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
    folder = write_published(
        tmp_path / "model", config={"eos_token_id": 258}, generation={"eos_token_id": SEVERAL, "pad_token_id": 256}
    )
    published = read_json(folder / "generation_config.json")
    model.save_pretrained(folder)
    for eos, text in ((SEVERAL, "Bye"), (258, "Byeand more")):
        (folder / "generation_config.json").write_text(json.dumps(published | {"eos_token_id": eos}))
        (written,) = Engine.load(folder).answer(
            [Conversation((Message("user", "Say bye"),))], SamplingSettings(max_new_tokens=30)
        )
        assert written.text == text


def test_a_typed_further_stop_token_in_an_answer_becomes_text(tmp_path: Path) -> None:
    """Serving would stop at it, so the model must not learn to write it as a control token."""
    base = write_published(tmp_path / "base", config={}, generation={"eos_token_id": SEVERAL})
    rows = write_rows(tmp_path / "rows.jsonl")
    rows.write_text('{"question": "Which token?", "answer": "It is <|endoftext|> here"}\n')
    assert exit_code("inspect", str(rows), "--model", str(base)) == 0
    chat = Engine.load(base).chat
    assert isinstance(chat, ChatTokenizer)
    (example,) = chat.encode(
        [{"role": "user", "content": "?"}, {"role": "assistant", "content": "It is <|endoftext|> here"}]
    )
    assert 256 not in example.token_ids
    assert example.token_ids[-1] != 256


def test_ids_of_ordinary_text_and_tokens_within_a_turn_end_nothing(tmp_path: Path) -> None:
    base = write_published(tmp_path / "base", config={}, generation={"eos_token_id": [258, 2, 256, 999]})
    assert Engine.load(base).stop_ids == (258, 256)
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}<|endoftext|>{% endif %}"
        "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    (base / "own.jinja").write_text(template)
    tokenizer = tiny_tokenizer()
    chat = ChatTokenizer.from_tokenizer(tokenizer, str(base / "own.jinja"), model_stop_ids=[258, 256])
    assert chat.stop_ids == (258,), "the template prints <|endoftext|> within each answer"


@pytest.mark.slow
def test_an_explicit_do_sample_false_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generation = {"do_sample": False, "temperature": 0.9, "top_p": 0.6, "eos_token_id": 258, "max_new_tokens": 77}
    base = write_published(tmp_path / "base", config={}, generation=generation)
    run = trained(base, tmp_path)
    card = capsys.readouterr().out
    assert "its temperature 0.9, top_p 0.6 had no effect" in " ".join(card.split())
    assert exit_code("export", str(run), str(tmp_path / "out"), "--dtype", "fp32") == 0
    for folder in (run / "model", tmp_path / "out"):
        written = read_json(folder / "generation_config.json")
        assert (written["do_sample"], written["max_new_tokens"]) == (False, 77)
        assert not {"temperature", "top_p"} & set(written)


@pytest.mark.slow
def test_sampling_that_was_meant_stays_sampling(tmp_path: Path) -> None:
    base = write_published(
        tmp_path / "base", config={}, generation={"do_sample": True, "temperature": 0.9, "eos_token_id": 258}
    )
    written = read_json(trained(base, tmp_path) / "model" / "generation_config.json")
    assert (written["do_sample"], written["temperature"]) == (True, 0.9)
