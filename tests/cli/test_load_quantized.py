"""`--load 4bit` and `8bit` through the command line: answers come from weights that are really quantised."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.tiny_chat import tiny_llama, tiny_tokenizer

from instil.cli.main import main
from instil.generation import engine as engine_module

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("load", "layer"), [("4bit", "Linear4bit"), ("8bit", "Linear8bitLt")])
def test_generate_answers_from_quantised_weights(load, layer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    tiny_llama(layers=1).save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    row = {"messages": [{"role": "user", "content": "Capital of Peru?"}]}
    (tmp_path / "prompts.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    opened = []
    start = engine_module.Engine.__init__

    def remembered(self, *given, **named):
        start(self, *given, **named)
        opened.append(self)

    monkeypatch.setattr(engine_module.Engine, "__init__", remembered)
    words = ["generate", str(tmp_path / "model"), "--prompts", str(tmp_path / "prompts.jsonl"), "--out"]
    with pytest.raises(SystemExit) as ended:
        main([*words, str(tmp_path / "out.jsonl"), "--load", load, "--max-new-tokens", "3"])
    assert not ended.value.code
    answers = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(answers) == 1
    assert answers[0]["tokens"] >= 1
    quantised = [m for m in opened[0].model.modules() if isinstance(m, getattr(bitsandbytes.nn, layer))]
    assert len(quantised) == 7  # the projections of one block
