"""Claims about the names of other tools: each leads to a setting that exists, and stands in docs/how-to/coming-from.md."""

from __future__ import annotations

from pathlib import Path

from instil.recipe import Recipe, Settings
from instil.setting_aliases import NOT_NEEDED, OTHER_NAMES


def test_names_of_other_tools_lead_to_settings_that_exist_and_stand_in_the_page():
    page = (Path(__file__).parents[1] / "docs" / "how-to" / "coming-from.md").read_text(encoding="utf-8")
    known = {f"{group}.{name}" for group, field in Recipe.model_fields.items() for name in _names_in(field.annotation)}
    for theirs, ours in OTHER_NAMES.items():
        assert ours in known | {"output"}, theirs
        assert f"`{theirs}`" in page, theirs
        assert f"`{ours}" in page, ours
    assert all(f"`{name}`" in page for name in NOT_NEEDED)
    assert not {*OTHER_NAMES, *NOT_NEEDED} & {name.rpartition(".")[2] for name in known}


def _names_in(group: object) -> list[str]:
    return list(group.model_fields) if isinstance(group, type) and issubclass(group, Settings) else []
