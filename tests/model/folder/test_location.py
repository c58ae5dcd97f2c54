from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.model.saved_models import load, saved

from instil.encoding.loading import load_tokenizer
from instil.errors import ModelError
from instil.model.adapters.lora import prepare_adapters
from instil.model.folder.location import locate
from instil.model.folder.saving import save_adapter
from instil.recipe import AdapterSettings


def test_a_run_folder_means_its_model(tmp_path: Path) -> None:
    saved(tmp_path / "run" / "model")
    (tmp_path / "run" / "recipe.yaml").write_text("{}")
    found = locate(tmp_path / "run")
    assert (found.kind, found.folder) == ("run", tmp_path / "run" / "model")
    assert len(load_tokenizer(found.tokenizer_folder)) == 99


def test_an_adapter_finds_its_base(tmp_path: Path) -> None:
    saved(tmp_path / "base")
    adapted = prepare_adapters(load(tmp_path / "base"), AdapterSettings(kind="lora", rank=2))
    save_adapter(adapted, tmp_path / "adapter", base=str(tmp_path / "base"))
    found = locate(tmp_path / "adapter")
    assert (found.kind, found.folder, found.adapter_folder) == ("adapter", tmp_path / "base", tmp_path / "adapter")
    assert found.tokenizer_folder == tmp_path / "base"
    opened = load(tmp_path / "adapter")
    trained = {name for name, value in opened.named_parameters() if value.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)


def test_names_that_mean_nothing_are_refused_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "recipe.yaml").write_text("{}")
    for name, says in {
        "./nothing": "no such model folder",
        "runs/nothing": "no such model folder",
        str(tmp_path / "nothing"): "no such model folder",
        "file": "is a file",
        "runs": "no model here",
        "unfinished": "has not finished.*--resume",
    }.items():
        with pytest.raises(ModelError, match=says):
            locate(name)


def test_an_adapter_without_its_base_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "/no/such/base"}))
    with pytest.raises(ModelError, match="whose base '/no/such/base' cannot be found"):
        locate(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="names no base model"):
        locate(tmp_path)


def test_a_base_is_named_so_that_it_is_found_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: list[tuple[str, str | None]] = []
    demo = locate("demo").folder

    def snapshot(name: str, *, revision: str | None, allow_patterns: list[str], **_: object) -> str:
        asked.append((name, revision))
        return str(demo)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "beside").symlink_to(demo)
    assert locate("demo").base_name == "demo"
    assert locate("owner/name", "v1").base_name == "owner/name"
    assert locate("beside").base_name == str(demo.resolve())
    for base, name in (("demo", "demo"), ("owner/name", "owner/name"), ("beside", str(demo.resolve()))):
        (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base, "revision": "v2"}))
        assert locate(tmp_path).base_name == name
    assert asked == [("owner/name", "v1"), ("owner/name", "v2")]


def test_a_hub_name_goes_to_the_hub_with_its_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: dict[str, Any] = {}

    def snapshot(name: str, *, revision: str | None, allow_patterns: list[str], **_: object) -> str:
        asked.update(name=name, revision=revision, patterns=allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(ModelError, match=r"no config\.json"):
        locate("owner/name", "v1")
    (tmp_path / "config.json").write_text("{}")
    assert locate("owner/name", "v1").kind == "hub"
    assert (asked["name"], asked["revision"]) == ("owner/name", "v1")
    assert not any(pattern.endswith((".py", ".bin")) for pattern in asked["patterns"])


def test_an_unreachable_hub_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def fail(*args: Any, **keywords: Any) -> str:
        raise OSError("no route to host\nmore")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(ModelError, match="cannot be downloaded from the Hub") as raised:
        locate("owner/name")
    assert "\n" not in str(raised.value)
