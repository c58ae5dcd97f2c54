"""Every command and every piece of Python in docs/reference/templates.md runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from instil.cli import main as entry

TEXT = (Path(__file__).parents[2] / "docs" / "reference" / "templates.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]


@pytest.mark.parametrize("command", COMMANDS)
def test_command_in_the_docs_runs(command, capsys):
    words = shlex.split(command.removesuffix(" || true"))
    assert words.pop(0) == "instil"
    with pytest.raises(SystemExit) as stop:
        entry.main(words)
    assert stop.value.code in ((0, None) if not command.endswith("|| true") else (0, 1, None))
    assert capsys.readouterr().out


def test_python_in_the_docs_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(block, {})
    assert "field='content'" in capsys.readouterr().out


def test_the_docs_show_the_refusal_as_it_is():
    from instil.errors import TemplateError
    from instil.template.format_string import read_format_string

    with pytest.raises(TemplateError) as refusal:
        read_format_string("<a>{user}<b><c><d>{assistant}")
    assert str(refusal.value) in " ".join(TEXT.split())
