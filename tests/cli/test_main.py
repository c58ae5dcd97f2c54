"""Claims about the entry point: one line and exit status 2 for what a user can fix."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from instil.cli import main as entry
from instil.errors import InstilError
from instil.training.records.run_folder import Run


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        entry.main(list(words))
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


def test_unknown_verb_is_one_line_with_the_nearest_name(capsys):
    code, out, err = run(capsys, "trian")
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert "did you mean 'train'?" in err


def test_unknown_option_is_one_line(capsys):
    code, _, err = run(capsys, "train", "recipe.yaml", "--optimizer.lrr", "1e-4")
    assert code == 2
    assert err.count("\n") == 1
    assert "--optimizer.lr" in err


@pytest.mark.parametrize(
    ("words", "keeps"),
    [
        (["--checkpoint.keep-best", "true"], True),
        (["--checkpoint.keep-best", "False"], False),
        (["--checkpoint.keep-best=false"], False),
        (["--checkpoint.no-keep-best"], False),
        (["--checkpoint.keep-best", "--resume", "false"], True),
    ],
)
def test_a_switch_takes_true_and_false(monkeypatch, tmp_path, words, keeps):
    calls = []
    monkeypatch.setattr(
        "instil.training.run.train",
        lambda recipe, *, resume, quiet: calls.append((recipe, resume)) or Run(Path(), True, {}),
    )
    (tmp_path / "rows.jsonl").touch()
    (tmp_path / "recipe.yaml").write_text(f"data: {tmp_path / 'rows.jsonl'}")
    with pytest.raises(SystemExit) as stop:
        entry.main(["train", str(tmp_path / "recipe.yaml"), *words, "--training.epochs", "2"])
    assert not stop.value.code
    ((recipe, resume),) = calls
    assert recipe.checkpoint.keep_best is keeps
    assert recipe.checkpoint.model_fields_set == {"keep_best"}
    assert recipe.training.epochs == 2
    assert not resume


@pytest.mark.parametrize("words", [["--resume", "maybe"], ["more"], ["--checkpoint.keep-best", "maybe"]])
def test_a_word_that_belongs_to_no_option_is_one_line(capsys, words):
    code, _, err = run(capsys, "train", "recipe.yaml", *words)
    assert code == 2
    assert err.count("\n") == 1
    assert f"instil train: {words[-1]!r} belongs to no option (a switch takes true or false). Leave it out" in err


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("training.num_train_epochs=1", "--training.epochs 1"),
        ("training.epochs=2", "--training.epochs 2"),
        ("++data.max-tokens=64", "--data.max-tokens 64"),
        ("learning_rate=1e-4", "--optimizer.lr 1e-4"),
        ("lr=1e-4", "--optimizer.lr 1e-4"),
        ("output=runs/x", "--output runs/x"),
        ("output_dir=runs/x", "--output runs/x"),
    ],
)
def test_a_setting_as_hydra_has_it_is_written_as_an_option(capsys, typed, meant):
    code, _, err = run(capsys, "train", "recipe.yaml", typed)
    assert code == 2
    assert err.count("\n") == 1
    assert f"is no option. An option begins with --. Write {meant}." in err


def test_a_setting_that_is_not_needed_here_is_said_to_be_none(capsys):
    _, _, err = run(capsys, "train", "recipe.yaml", "training.packing=true")
    assert "'training.packing=true' is no option (not needed: examples are always laid end to end" in err


@pytest.mark.parametrize("word", ["--optimizer.lr=fast", "--training.batch-size=x"])
def test_a_wrong_value_is_named_by_the_option_that_was_typed(capsys, word):
    code, _, err = run(capsys, "train", "recipe.yaml", word)
    option, _, value = word.partition("=")
    assert code == 2
    assert f"error: {option}: found {value!r}. Input should be a" in err
    assert "recipe:" not in err


@pytest.mark.parametrize(
    ("words", "name"), [(["chat"], "MODEL"), (["convert"], "DATA"), (["export"], "MODEL"), (["export", "m"], "OUT")]
)
def test_a_missing_word_is_named_as_help_names_it(capsys, words, name):
    code, _, err = run(capsys, *words)
    assert code == 2
    verb = words[0]
    assert err == f"error: instil {verb}: {name} is missing. Write it after the command. Run: instil {verb} --help\n"


def test_an_option_of_another_tool_leads_to_our_setting(capsys):
    code, _, err = run(capsys, "train", "recipe.yaml", "--gradient-accumulation-steps", "4")
    assert code == 2
    assert "(what other tools call 'gradient_accumulation_steps' is --training.batch_size here). Run:" in err


def test_an_option_under_another_group_leads_to_its_own(capsys):
    code, _, err = run(capsys, "train", "recipe.yaml", "--training.lr", "1e-4")
    assert code == 2
    assert "unknown option --training.lr (did you mean '--optimizer.lr'?). Run:" in err
    _, _, err = run(capsys, "serve", "demo", "--lr", "1e-4")
    assert "optimizer.lr" not in err


def test_a_wrong_value_has_the_words_of_a_recipe_error(capsys):
    code, _, err = run(capsys, "inspect", "rows.jsonl", "--data.max-tokens", "4")
    assert code == 2
    assert err.count("\n") == 1
    assert "max_tokens: found '4'. Input should be greater than or equal to 8. Run: instil inspect --help" in err


def test_an_instil_error_is_one_line_and_traceback_shows_the_rest(capsys, monkeypatch):
    def refuse(words: list[str]) -> None:
        raise InstilError("rows.jsonl:3: found\nnothing; expected a row; add one")

    monkeypatch.setattr(entry, "build_app", lambda typed_verb, **_: refuse)
    code, _, err = run(capsys, "train")
    assert (code, err) == (2, "error: rows.jsonl:3: found nothing; expected a row; add one\n")
    with pytest.raises(InstilError, match="found\nnothing"):
        entry.main(["train", "--traceback"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "text"),
    [
        ("train", "Every setting of a recipe is an option"),
        ("plan", "Loads no weights and trains nothing."),
        ("evaluate", "Writes evaluation.json"),
        ("runs", "A damaged run is named below the table"),
    ],
)
def test_help_of_a_verb_shows_its_full_text(capsys, verb, text):
    code, out, _ = run(capsys, verb, "--help")
    assert code == 0
    assert text in " ".join(out.split())


def test_help_names_every_verb(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert all(f" {name} " in out for name, _, _ in entry.VERBS)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["train", "plan", "prepare", "inspect"])
def test_a_file_that_is_not_there_is_found_before_a_library_is_loaded(verb, tmp_path):
    program = (
        "import sys\nfrom instil.cli.main import main\n"
        f"try: main(['{verb}', 'MISSING.jsonl'])\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules, 'transformers' in sys.modules)"
    )
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n', encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "False", "False"]
    assert done.stderr == "error: MISSING.jsonl: no such file. Expected a file, folder, glob or -. Check the path.\n"
