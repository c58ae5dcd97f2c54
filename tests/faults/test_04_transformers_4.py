"""What is written must be read alike by transformers 4: its names for rotary settings, types and tokenizer classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.faults.published import read_json, write_published, write_rows
from tests.model.tiny import tiny_model
from tests.training.architectures import EVERY
from tests.training.command_line import exit_code
from transformers import AutoConfig

from instil.errors import ExportError
from instil.exporting import check_with_4
from instil.exporting.export import export
from instil.model.folder.both_generations import make_config_readable

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
TOKENIZER = {
    "clean_up_tokenization_spaces": False,
    "eos_token": "<|im_end|>",
    "model_max_length": 512,
    "pad_token": "<|endoftext|>",
    "tokenizer_class": "PreTrainedTokenizerFast",
}
"""The golden of a tokenizer_config.json: nothing that only version 5 knows."""


def trained(base: Path, root: Path, *options: str) -> Path:
    """Train one step through the command line and return the run folder."""
    rows = write_rows(root / "rows.jsonl")
    (root / "recipe.yaml").write_text(
        f"model: {{name: {base}}}\ndata: {{sources: [{rows}], heldout_share: 0.0, store: {root / 'store'}}}\n"
        f"training: {{max_steps: 1, batch_size: 4, precision: fp32}}\noutput: {root / 'run'}\n",
        encoding="utf-8",
    )
    assert exit_code("train", str(root / "recipe.yaml"), *options) == 0
    return root / "run"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "old"),
    [
        ({"rope_theta": 500000.0, "rope_scaling": None}, {"rope_theta": 500000.0, "rope_scaling": None}),
        ({"rope_theta": 20000.0, "rope_scaling": YARN}, {"rope_theta": 20000.0, "rope_scaling": YARN}),
    ],
)
def test_a_run_and_its_export_keep_the_rotary_settings_under_both_names(
    config: dict[str, Any], old: dict[str, Any], tmp_path: Path
) -> None:
    base = write_published(tmp_path / "base", config=config, generation={"eos_token_id": 258})
    run = trained(base, tmp_path)
    export(run, tmp_path / "out", dtype="fp32")
    for folder in (run / "model", tmp_path / "out"):
        written = read_json(folder / "config.json")
        assert {name: written[name] for name in old} == old
        assert written["torch_dtype"] == written["dtype"] == "float32"
        theta = AutoConfig.from_pretrained(folder).rope_parameters["rope_theta"]
        assert theta == old["rope_theta"], "version 5 reads the same"
        assert read_json(folder / "tokenizer_config.json") == TOKENIZER


@pytest.mark.slow
def test_an_adapters_tokenizer_is_readable_too(tmp_path: Path) -> None:
    base = write_published(tmp_path / "base", config={"rope_theta": 1e6}, generation=None)
    run = trained(base, tmp_path, "--adapter.kind", "lora", "--adapter.rank", "2")
    export(run, tmp_path / "out", target="adapter")
    for folder in (run / "adapter", tmp_path / "out"):
        assert read_json(folder / "tokenizer_config.json") == TOKENIZER


@pytest.mark.parametrize(
    ("kind", "old"),
    [
        ("gemma3_text", {"rope_theta": 70000.0, "rope_local_base_freq": 700.0, "rope_scaling": None}),
        ("gpt_neox", {"rotary_emb_base": 70000.0, "rotary_pct": 0.25, "rope_scaling": None}),
        ("phi", {"rope_theta": 70000.0, "partial_rotary_factor": 0.5, "rope_scaling": None}),
        ("qwen3", {"rope_theta": 70000.0, "rope_scaling": None}),
        ("gpt2", {}),
    ],
)
def test_each_architecture_has_its_own_old_names(kind: str, old: dict[str, Any], tmp_path: Path) -> None:
    model = tiny_model(kind, settings=EVERY[kind])
    rope = getattr(model.config, "rope_parameters", None)
    if kind == "gemma3_text":
        rope["full_attention"]["rope_theta"], rope["sliding_attention"]["rope_theta"] = 70000.0, 700.0
    elif rope:
        rope["rope_theta"] = 70000.0
    model.config.save_pretrained(tmp_path)
    make_config_readable(tmp_path)
    written = read_json(tmp_path / "config.json")
    assert {name: written[name] for name in old} == old
    assert AutoConfig.from_pretrained(tmp_path).to_dict().get("rope_parameters") == rope


def test_settings_that_only_version_5_knows_get_no_old_names(tmp_path: Path) -> None:
    """Version 5 would read a flat rope_scaling beside nested rope_parameters and lose them."""
    model = tiny_model("gemma4_text", settings=EVERY["gemma4_text"])
    model.config.save_pretrained(tmp_path)
    before = AutoConfig.from_pretrained(tmp_path).rope_parameters
    make_config_readable(tmp_path)
    assert "rope_scaling" not in read_json(tmp_path / "config.json")
    assert AutoConfig.from_pretrained(tmp_path).rope_parameters == before


@pytest.mark.slow
@pytest.mark.long
def test_the_other_version_is_really_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No package index is needed here: the folder that comes first on the path is empty, so version 5 answers."""
    base = write_published(tmp_path / "base", config={"rope_theta": 500000.0}, generation={"eos_token_id": 258})
    run = trained(base, tmp_path)
    (tmp_path / "packages").mkdir()
    monkeypatch.setattr(check_with_4, "installed_4", lambda: tmp_path / "packages")
    notes = export(run, tmp_path / "out", dtype="fp32", check_with="4").parity.notes
    assert any("4 prompts and greedy answers equal" in note for note in notes)
    assert notes[-1] in (tmp_path / "out" / "README.md").read_text()

    # A folder that is read with other rotary settings gives other logits.
    engine = check_with_4.Engine.load(tmp_path / "out")
    config = tmp_path / "out" / "config.json"
    config.write_text(config.read_text().replace("500000.0", "100.0"))
    from instil.exporting.parity import check_ids, probe_conversations

    _, prompts = check_ids(engine.chat, tmp_path / "out", probe_conversations())
    with pytest.raises(ExportError, match=r"reads the export differently.*logit changed"):
        check_with_4.check_with_4(tmp_path / "out", engine, prompts)


@pytest.mark.parametrize("target", ["adapter", "gguf"])
def test_only_a_merged_model_can_be_checked(target: Any, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=f'check_with: found 4 with target="{target}"'):
        export("demo", tmp_path / "out", target=target, check_with="4")


@pytest.mark.slow
def test_without_a_package_index_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSTIL_CACHE", str(tmp_path))
    monkeypatch.setattr(check_with_4, "REQUIREMENT", "no-such-package-of-instil==1")
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.setenv(name, "1" if name == "PIP_NO_INDEX" else str(tmp_path))
    with pytest.raises(ExportError, match="could not be installed"):
        check_with_4.installed_4()
    assert not list((tmp_path / "check-with-4").iterdir()), "nothing is left behind"
