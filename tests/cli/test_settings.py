"""Claims about recipe settings on the command line: only typed settings replace those of the file."""

from __future__ import annotations

from cyclopts import App

from instil.cli.settings import Overrides, typed
from instil.recipe import Recipe


def parse(*words: str) -> dict:
    """Return the settings that a verb receives from these words."""
    app = App(result_action="return_value")

    @app.default
    def verb(*, settings: Overrides = None) -> dict:
        return typed(settings)

    return app(words)


def test_nothing_typed_is_no_setting():
    assert typed(None) == {}
    assert parse() == {}


def test_typed_settings_are_nested_as_in_the_file_and_the_rest_is_left_out():
    assert parse("--optimizer.lr", "1e-4", "--data.max-tokens", "64") == {
        "optimizer": {"lr": 1e-4},
        "data": {"max_tokens": 64},
    }


def test_a_typed_default_is_a_setting():
    assert parse("--training.epochs", str(Recipe().training.epochs)) == {"training": {"epochs": 3.0}}
