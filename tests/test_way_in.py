"""Claims about advice: in Python an error names arguments, on the command line options, and a command stays one."""

from __future__ import annotations

import pytest

import instil
from instil.errors import InstilError
from instil.way_in import as_arguments, on_the_command_line


@pytest.mark.parametrize(
    ("text", "python"),
    [
        ("Continue it with --resume, name another with --output, or remove it.", "Continue it with resume=True, name another with output, or remove it."),
        ("Free disk space, then continue with --resume.", "Free disk space, then continue with resume=True."),
        ("such as --data.columns.user '{问题}' --data.columns.assistant '{答案}'", 'such as **{"data.columns": {"user": "{问题}", "assistant": "{答案}"}}'),
        ("such as --columns.user '{问题}' --columns.assistant '{答案}', or", 'such as columns={"user": "{问题}", "assistant": "{答案}"}, or'),
        ("Leave it out with --on-bad-row skip, or --from sharegpt.", 'Leave it out with on_bad_row="skip", or format="sharegpt".'),
        ("Write --model demo --data rows.jsonl.", 'Write model="demo" data="rows.jsonl".'),
        ("Add --search optuna --trials 20, or name the values.", 'Add search="optuna" trials=20, or name the values.'),
        ("Use --to messages instead.", 'Use format="messages" instead.'),
        ("Choose another --port or --host.", "Choose another port or host."),
        ("--limit 0: found less than 1.", "limit=0: found less than 1."),
        ("Leave --check-with out to export.", "Leave check_with out to export."),
        ("Export with --dtype fp32.", 'Export with dtype="fp32".'),
        ("Finish it with `instil train r.yaml --resume`.", "Finish it with `instil train r.yaml --resume`."),
        ("Run: pip install --force-reinstall --no-cache-dir llama-cpp-python", "Run: pip install --force-reinstall --no-cache-dir llama-cpp-python"),
        ("To continue: instil train r.yaml --resume. To train on: --model run --data rows.jsonl.", 'To continue: instil train r.yaml --resume. To train on: model="run" data="rows.jsonl".'),
        ("two - - or -- dashes, a--b", "two - - or -- dashes, a--b"),
    ],
)  # fmt: skip
def test_options_become_arguments_and_commands_stay(text, python):
    assert as_arguments(text) == python
    assert str(InstilError(text)) == python
    with on_the_command_line():
        assert str(InstilError(text)) == text


def test_errors_of_calls_give_advice_for_python(tmp_path):
    with pytest.raises(
        instil.FormatError, match=r'such as columns=\{"user": "\{frage\}", "assistant": "\{antwort\}"\},'
    ):
        list(instil.read([{"frage": "2+2?", "antwort": "4"}]))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("output: run\n")
    with pytest.raises(instil.InstilError) as error:
        instil.evaluate("no/model", [{"question": "a", "answer": "b"}], limit=0)
    assert "--" not in str(error.value)
