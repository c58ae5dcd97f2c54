"""Which tokens a published model stops on, and what its sampling settings become."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import GenerationConfig

from instil.errors import ModelError
from instil.model.folder.generation_config import published_stop_ids, set_stop_ids
from instil.model.folder.location import ModelLocation


def folder_with(root: Path, **files: Any) -> Path:
    root.mkdir(exist_ok=True)
    for name, values in files.items():
        (root / f"{name}.json").write_text(json.dumps(values), encoding="utf-8")
    return root


def model_with(**settings: Any) -> Any:
    text = SimpleNamespace(eos_token_id=1, pad_token_id=None)
    return SimpleNamespace(
        generation_config=GenerationConfig(**settings), config=SimpleNamespace(get_text_config=lambda: text)
    )


@pytest.mark.parametrize(
    ("files", "ids"),
    [
        ({"generation_config": {"eos_token_id": [5, 7]}, "config": {"eos_token_id": 3}}, (5, 7)),
        ({"generation_config": {"eos_token_id": 5}}, (5,)),
        ({"generation_config": {}, "config": {"eos_token_id": 3}}, ()),
        ({"config": {"eos_token_id": [3, 4, 3]}}, (3, 4)),
        ({"config": {}}, ()),
        ({"config": {"eos_token_id": -1}}, ()),
    ],
)
def test_the_ids_are_those_that_transformers_stops_on(
    files: dict[str, Any], ids: tuple[int, ...], tmp_path: Path
) -> None:
    folder = folder_with(tmp_path / "model", **files)
    assert published_stop_ids(ModelLocation("model", "folder", folder)) == ids


def test_an_adapters_own_ids_come_first(tmp_path: Path) -> None:
    base = folder_with(tmp_path / "base", generation_config={"eos_token_id": [5, 7]})
    adapter = folder_with(tmp_path / "adapter", generation_config={"eos_token_id": [9, 5]})
    assert published_stop_ids(ModelLocation("adapter", "adapter", base, adapter)) == (9, 5, 7)


@pytest.mark.parametrize("value", ["<eos>", ["a"], 1.5, True, {"id": 3}])
def test_an_eos_that_is_no_id_is_an_error_with_its_file(value: Any, tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "model", generation_config={"eos_token_id": value})
    with pytest.raises(ModelError, match=r"generation_config.json: eos_token_id is .*Expected a token id or a list"):
        published_stop_ids(ModelLocation("model", "folder", folder))


def test_an_explicit_do_sample_false_stays_and_its_settings_go(tmp_path: Path) -> None:
    model = model_with(do_sample=False, temperature=0.9, top_p=0.6, eos_token_id=4)
    changes = set_stop_ids(model, (4,), pad_id=None)
    assert len(changes) == 1
    assert "temperature 0.9, top_p 0.6 had no effect" in changes[0]
    model.generation_config.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "generation_config.json").read_text())
    assert written["do_sample"] is False
    assert "temperature" not in written
    assert "top_p" not in written


def test_without_do_sample_the_settings_show_that_sampling_was_meant(tmp_path: Path) -> None:
    model = model_with(temperature=0.9, eos_token_id=4)
    changes = set_stop_ids(model, (4, 6), pad_id=2)
    assert changes[0] == "generation_config.json: eos_token_id 4 becomes [4, 6]"
    assert changes[1].endswith("The tuned model's has do_sample: true")
    model.generation_config.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "generation_config.json").read_text())
    assert (written["do_sample"], written["temperature"], written["eos_token_id"]) == (True, 0.9, [4, 6])


def test_a_penalty_stays_and_is_mentioned(tmp_path: Path) -> None:
    model = model_with(do_sample=True, repetition_penalty=1.05, eos_token_id=4)
    (line,) = set_stop_ids(model, (4,), pad_id=None)
    assert "it has repetition_penalty 1.05, which transformers and vLLM apply to every answer" in line
    model.generation_config.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "generation_config.json").read_text())["repetition_penalty"] == 1.05
    assert set_stop_ids(model_with(repetition_penalty=1.0, eos_token_id=4), (4,), pad_id=None) == ()


def test_a_config_that_stays_is_not_mentioned() -> None:
    assert set_stop_ids(model_with(do_sample=True, temperature=0.7, eos_token_id=[4, 6]), (4, 6), pad_id=2) == ()
