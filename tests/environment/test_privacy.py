"""Claims about texts that others will read: no path, no name of a person or a machine."""

from __future__ import annotations

import getpass
import platform

import pytest

from instil.environment.privacy import without_private


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("libx.so: not found", "libx.so: not found"),
        ("/home/ann/.venv/lib/libx.so: undefined symbol", "…/libx.so: undefined symbol"),
        ("No module named 'x' (from ~/work/x.py)", "No module named 'x' (from …/x.py)"),
        ("cannot open '/opt/my lab/a'", "cannot open '…/a'"),
        ("found 1/2 and and/or, >=2.1", "found 1/2 and and/or, >=2.1"),
        ("of ann on lab-7, banner", "of … on …, banner"),
    ],
)
def test_paths_and_names_are_taken_out(text, public):
    assert without_private(text, names=frozenset({"ann", "lab-7"})) == public


def test_this_user_and_this_machine_are_not_named():
    names = {platform.node(), getpass.getuser()} - {"root", "localhost"}
    assert names
    for name in names:
        assert name not in without_private(f"failed on {name}: no file")
