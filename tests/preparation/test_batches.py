"""Tensors for other loops: labels, padded and flat batches, and a dataset view, with the losses of our own step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.model.tiny import tiny_model

import instil
from instil.conversation import Example
from instil.errors import EncodingError
from instil.evaluation.heldout import loss_sums
from instil.preparation.batches import collate_flat, collate_padded
from instil.preparation.store import ExampleStore
from instil.preparation.torch_examples import TorchExamples

EXAMPLES = [
    Example([5, 6, 7, 8], [0.0, 0.0, 1.0, 1.0]),
    Example([9, 10], [0.0, 1.0]),
    Example([11, 12, 13], [0.0, 1.0, 0.0]),
]


def test_labels_are_unshifted_ids_where_a_token_is_trained() -> None:
    assert [example.labels() for example in EXAMPLES] == [[-100, -100, 7, 8], [-100, 10], [-100, 12, -100]]
    assert EXAMPLES[1].labels(ignored=-1) == [-1, 10]


def test_tensors_have_the_types_that_models_take() -> None:
    tensors = EXAMPLES[0].to_tensors()
    assert {name: value.dtype for name, value in tensors.items()} == {
        "input_ids": torch.int64,
        "labels": torch.int64,
        "weights": torch.float32,
    }
    assert tensors["labels"].tolist() == EXAMPLES[0].labels()


def test_both_batches_give_the_losses_of_the_examples_alone() -> None:
    model = tiny_model("llama", attention="sdpa").eval()
    alone = sum(loss_sums(model, [example])[0] for example in EXAMPLES)
    num_trained = sum(sum(example.weights) for example in EXAMPLES)
    with torch.no_grad():
        for batch in (collate_padded(EXAMPLES, pad_id=3), collate_flat(EXAMPLES)):
            loss = model(**batch, use_cache=False).loss
            assert float(loss) == pytest.approx(alone / num_trained, abs=1e-5)


def test_a_dataset_view_of_a_store_feeds_a_dataloader() -> None:
    view = ExampleStore.from_examples(EXAMPLES).to_torch()
    assert isinstance(view, torch.utils.data.Dataset)
    loader = torch.utils.data.DataLoader(view, batch_size=2, collate_fn=collate_padded)
    batches = list(loader)
    assert [tuple(batch["input_ids"].shape) for batch in batches] == [(2, 4), (1, 3)]
    assert batches[0]["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert torch.equal(TorchExamples(EXAMPLES)[-1]["labels"], view[2]["labels"])


def test_fractional_weights_are_refused_or_given() -> None:
    half = Example([1, 2], [0.0, 0.5])
    for collate in (collate_padded, collate_flat):
        with pytest.raises(EncodingError, match=r"example 0 has weights other than 0 and 1.* with_weights=True"):
            collate([half])
        assert collate([half], with_weights=True)["weights"].tolist() == [[0.0, 0.5]]


@pytest.mark.parametrize("wrong", [[], None, 5, "text", [1], [{"input_ids": [1]}], {}, [[{"role": "user"}]]])
def test_what_is_no_batch_is_an_error_in_plain_words(wrong: Any) -> None:
    for collate in (instil.collate_padded, instil.collate_flat):
        with pytest.raises(EncodingError, match="batch: "):
            collate(wrong)


def test_the_records_load_no_torch(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = "import sys, instil; instil.Example([1, 2], [0, 1]).labels(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
