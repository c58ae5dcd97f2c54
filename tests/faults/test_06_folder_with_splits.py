"""Of a folder with train and test files only the split that is asked for is read, as `datasets` reads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.faults.rows_on_disk import write_jsonl
from tests.training.command_line import exit_code

from instil.data import read
from instil.data.sources.files import find_files
from instil.errors import DataError

LAYOUTS = {
    "files": ["train.jsonl", "test.jsonl"],
    "several files": ["train_0.jsonl", "train_1.jsonl", "dev_0.jsonl", "my-test.jsonl"],
    "shards": ["data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl", "data/test-00000-of-00001.jsonl"],
    "other shards": ["data/train_sft-00000-of-00001.jsonl", "data/test_sft-00000-of-00001.jsonl", "train.jsonl"],
    "folders": ["train/a.jsonl", "train/b.jsonl", "validation/a.jsonl", "notes/a.jsonl"],
    "a word in a name": ["training-set.jsonl", "evaluation_set.jsonl", "restrain.jsonl"],
    "no split": ["a.jsonl", "sub/b.jsonl", "latest.jsonl"],
    "only a test file": ["test.jsonl", "other.jsonl"],
}


def make(folder: Path, names: list[str]) -> Path:
    for name in names:
        write_jsonl(folder / name, [{"question": name, "answer": "x"}])
    return folder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_splits_are_those_of_datasets(layout: str, tmp_path: Path) -> None:
    from datasets.data_files import DataFilesPatternsDict, get_data_patterns

    folder = make(tmp_path / "data set", LAYOUTS[layout])
    patterns = get_data_patterns(str(folder))
    theirs = {
        str(split): sorted(files)
        for split, files in DataFilesPatternsDict.from_patterns(patterns).resolve(str(folder)).items()
    }
    assert theirs
    for split in ("train", "validation", "test", "train_sft"):
        if split in theirs:
            assert sorted(map(str, find_files(str(folder), split=split))) == theirs[split], split
        else:
            with pytest.raises(DataError, match=rf"has no split '{split}'\. Expected one of: .*or all"):
                find_files(str(folder), split=split)
    assert len(find_files(str(folder), split="all")) == len(LAYOUTS[layout])


def test_a_cloned_data_set_follows_its_readme(tmp_path: Path) -> None:
    folder = make(tmp_path, ["en/part-1.jsonl", "en/held.jsonl", "fr/part-1.jsonl", "stray.jsonl"])
    (folder / "README.md").write_text(
        "---\nlicense: mit\nconfigs:\n- config_name: en\n  default: true\n  data_files:\n  - split: train\n    path: en/part-*\n"
        "  - split: test\n    path: [en/held.jsonl]\n- config_name: fr\n  data_files: fr/*.jsonl\n---\n# Words\n"
    )

    def questions(**options: str) -> list[str]:
        return [str(row.messages[0].content) for row in read(folder, **options)]  # type: ignore[arg-type]

    assert questions() == ["en/part-1.jsonl"]
    assert questions(split="test") == ["en/held.jsonl"]
    assert questions(split="train+test") == ["en/part-1.jsonl", "en/held.jsonl"]
    assert questions(subset="fr") == ["fr/part-1.jsonl"]
    assert len(questions(split="all")) == 4
    with pytest.raises(DataError, match=r"has no subset 'de'\. Expected one of: en, fr"):
        questions(subset="de")
    for broken in ("---\nconfigs: [\n---\n", "---\nconfigs: 3\n---\n", "# no front matter\n"):
        (folder / "README.md").write_text(broken)
        assert len(questions()) == 4


@pytest.mark.slow
def test_every_verb_reads_the_split_and_says_what_it_leaves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make(tmp_path / "rows", LAYOUTS["files"])
    recipe = tmp_path / "r.yaml"
    for sources, rows in (
        (f"[{folder}]", ["train.jsonl"]),
        (f"[{{path: {folder}, split: test}}]", ["test.jsonl"]),
        (f"[{{path: {folder}, split: all}}]", ["test.jsonl", "train.jsonl"]),
    ):
        recipe.write_text(f"data:\n  sources: {sources}\n  store: {tmp_path / 'store'}\n  heldout_share: 0\n")
        for words in (("prepare", str(recipe)), ("inspect", str(recipe), "--template", "chatml")):
            assert exit_code(*words) == 0
            printed = capsys.readouterr().out
            assert f"{len(rows)} = {len(rows)} trained" in printed
            assert ("is read; not read: " in printed) == (len(rows) == 1), printed
    assert exit_code("convert", str(folder), str(tmp_path / "o.jsonl")) == 0
    assert "only split train is read; not read: test (test.jsonl)" in capsys.readouterr().err
    assert json.loads((tmp_path / "o.jsonl").read_text())["messages"][0]["content"] == "train.jsonl"


def test_the_test_files_can_be_held_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make(tmp_path / "rows", LAYOUTS["files"])
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"data:\n  sources: [{folder}]\n  heldout: [{{path: {folder}, split: test}}]\n  store: {tmp_path / 'store'}\n"
    )
    assert exit_code("prepare", str(recipe)) == 0
    assert "held out" in capsys.readouterr().out


def test_a_split_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    folder = make(tmp_path / "rows", ["valid.jsonl", "test.jsonl"])
    with pytest.raises(DataError, match=r"has no split 'train'\. Expected one of: validation, test, or all"):
        list(read(folder))
