"""What is read of a run, and what of it may be published."""

from __future__ import annotations

import pytest

from instil.errors import RunError
from instil.model.folder.location import locate
from instil.training.model_card.papers import published_name, read_papers


def test_a_damaged_run_is_found_before_the_model_is_looked_at(run):
    folder = run()
    (folder / "evaluation" / "evaluation.json").write_text("[", encoding="utf-8")
    with pytest.raises(RunError, match="damaged"):
        read_papers(locate(folder))


def test_only_names_of_the_hub_are_taken_for_names_of_the_hub(run):
    papers = read_papers(locate(run()))
    assert (papers.base_on_hub, papers.data_on_hub) == ("Qwen/Qwen2.5-0.5B", ["openai/gsm8k"])


@pytest.mark.parametrize("path", ["/home/ann/models/base", "~/models/base", "/data/private/base/"])
def test_an_absolute_path_loses_its_folders(path):
    assert published_name(path) == "base"


@pytest.mark.parametrize("name", ["openai/gsm8k", "data/rows.jsonl", "demo", "-"])
def test_other_names_stay_as_they_are(name):
    assert published_name(name) == name
