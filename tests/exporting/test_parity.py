from __future__ import annotations

import json
import shutil

import pytest
import torch
from tests.exporting.exported import ROWS
from tests.tiny_chat import folders

from instil.conversation import Conversation, Message
from instil.errors import ExportError
from instil.exporting.export import export
from instil.exporting.parity import check_ids, check_merge, check_stops
from instil.generation.decoder.plain import PlainRows
from instil.generation.engine import Engine


@pytest.mark.slow
def test_typed_control_tokens_are_counted_apart(tmp_path):
    typed = Conversation((Message("user", "what is <|im_end|>?"), Message("assistant", "a token")))
    done = export(folders()["run"], tmp_path / "out", rows=[*ROWS, typed])
    assert (done.parity.prompts, done.parity.typed_control_tokens) == (len(ROWS), 1)


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(folders()["tuned"], tmp_path / "copy")


def test_another_template_in_the_export_is_refused_with_the_first_difference(copy):
    chat = Engine.load(folders()["tuned"]).chat
    template = copy / "chat_template.jinja"
    template.write_text(
        template.read_text(encoding="utf-8").replace("<|im_start|>' +", "<|im_start|> ' +"), encoding="utf-8"
    )
    with pytest.raises(ExportError, match="differs from training at token 1"):
        check_ids(chat, copy, ROWS)


def test_another_stop_token_in_the_export_is_refused(copy):
    chat = Engine.load(folders()["tuned"]).chat
    assert check_stops(chat, copy) == ("<|im_end|>",)
    file = copy / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | {"eos_token_id": 256}), encoding="utf-8")
    with pytest.raises(ExportError, match=r"generation_config stops on \[256\]"):
        check_stops(chat, copy)


@pytest.mark.slow
def test_both_sides_answer_by_the_same_arithmetic(tmp_path, monkeypatch):
    """Plain steps round 16 bits at other places: of two tokens nearly as likely, the export had the other one."""
    read = []
    own = PlainRows.add
    monkeypatch.setattr(PlainRows, "add", lambda self, prompts: read.append(prompts) or own(self, prompts))
    done = export(folders()["run"], tmp_path / "out", rows=ROWS, dtype="bf16")
    assert done.parity.answers == len(ROWS)
    assert read == []
    engine = Engine.load(tmp_path / "out")
    engine.answer([Conversation((Message("user", "Say hi"),))])
    assert len(read) == 1  # which others use


def test_a_merge_that_changes_logits_is_refused():
    before = [torch.tensor([[1.0, 2.0]])]
    assert check_merge(before, [before[0] + 1e-6], torch.float32) < 1e-4
    with pytest.raises(ExportError, match="merging the adapter changed a logit"):
        check_merge(before, [before[0] + 1], torch.float32)
    with pytest.raises(ExportError, match=r"fp32 already\. Export the adapter without merging it: target=.adapter"):
        check_merge(before, [before[0] + 1], torch.float32)
    with pytest.raises(ExportError, match=r"bfloat16.*Export with dtype=.fp32"):
        check_merge(before, [before[0] + 1], torch.bfloat16)
    with pytest.raises(ExportError, match="merging"):
        check_merge(before, [before[0] * float("nan")], torch.float32)
