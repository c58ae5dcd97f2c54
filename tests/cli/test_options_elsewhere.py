"""Options that other tools have are answered with the option to write here, and that option exists."""

from __future__ import annotations

import pytest

from instil.cli.main import main
from instil.cli.options_elsewhere import ELSEWHERE, meant_option


def error_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(list(words))
    assert end.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("export runs/x --format gguf", "Write --as gguf."),
        ("export runs/x out --format=gguf", "Write --as gguf."),
        ("export runs/x out --to ollama", "Write --as ollama."),
        ("export runs/x out --outtype q8_0", "Write --as gguf --dtype q8_0."),
        ("export runs/x out --quantization q4_k_m", "Write --as gguf --dtype q4_k_m."),
        ("export runs/x out --quantize 4bit", "Write --as 4bit."),
        ("convert a.jsonl b.jsonl --as sharegpt", "Write --to sharegpt."),
        ("convert a.jsonl b.jsonl --data.columns.user '{q}'", "Write --columns.user"),
        ("inspect a.jsonl --columns.user {q}", "Write --data.columns.user '{q}'."),
        ("evaluate demo --data a.jsonl --data.columns.user {q}", "instil convert FILE OUT.jsonl --columns.user"),
        ("generate demo --prompts a.jsonl --out b.jsonl --format sharegpt", "it has --from"),
        ("serve demo --torch-dtype bf16", "Write --precision bf16."),
        ("chat demo --load-in-4bit", "Write --load 4bit."),
    ],
)
def test_an_option_of_another_tool_is_answered_with_ours(
    words: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = error_of(capsys, *words.split())
    assert "unknown option --" in error
    assert meant in error
    assert "did you mean" not in error


@pytest.mark.slow
@pytest.mark.parametrize("verb", sorted(ELSEWHERE))
def test_what_is_named_is_an_option_of_the_verb(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    shown = capsys.readouterr().out
    for other, meant in ELSEWHERE[verb].items():
        for option in (word for word in meant.split() if word.startswith("--")):
            name = option.rpartition(".")[0] if ".columns." in option or option.startswith("--columns.") else option
            assert name in shown or name.startswith("--data."), f"{verb}: --{other} is answered with {option}"
        assert f" --{other} " not in shown, f"{verb} has --{other} itself"


def test_an_option_that_nobody_has_is_left_to_the_nearest_name() -> None:
    assert meant_option("export", "--colour", "red") == ""
    assert meant_option("train", "--quantization", "4bit") == ""
