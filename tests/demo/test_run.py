"""Claims about `instil demo` as a person runs it: the whole path, through the command line."""

from __future__ import annotations

import json

import pytest

from instil.cli.main import main
from instil.demo import preference, run
from instil.demo.pairs import training_pairs
from instil.demo.run import demo_recipe
from instil.errors import RunError
from instil.preparation.chat_setup import set_up_chat


@pytest.mark.parametrize(
    "epochs",
    [
        pytest.param(0.6, id="half as long", marks=pytest.mark.long),
        pytest.param(None, id="whole", marks=pytest.mark.exhaustive),
    ],
)
def test_the_demo_teaches_a_base_model_to_answer(epochs, tmp_path, capsys, monkeypatch):
    """Trained half as long as a person's demo it reaches the same bounds, but may forget more by pairs.

    The whole is run on request.
    """

    def for_epochs(output, sources):
        return demo_recipe(output, sources).override({"training": {"epochs": epochs}} if epochs else {})

    monkeypatch.setattr(run, "demo_recipe", for_epochs)
    if epochs:
        monkeypatch.setattr(preference, "training_pairs", lambda: training_pairs(416))
    folder = tmp_path / "demo"
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--preference", "--output", str(folder)])
    assert not ended.value.code
    results = json.loads((folder / "results.json").read_text())
    base, tuned = results["base"], results["tuned"]
    for figures in (base, tuned):
        for name in ("exact_match", "second_turn", "system_prompt", "stops"):
            assert figures[name].keys() == {"value", "low", "high", "n"}
            assert 0 <= figures[name]["low"] <= figures[name]["value"] <= figures[name]["high"] <= 1
            assert figures[name]["n"] >= 80
    assert base["exact_match"]["value"] <= 0.08
    assert tuned["exact_match"]["value"] >= 0.85
    assert tuned["second_turn"]["value"] >= 0.80
    assert tuned["stops"]["value"] >= 0.99
    assert results["peak_rss_mb"] > 0
    printed = capsys.readouterr().out
    assert f"instil chat {folder}-preference" in printed
    second_act = tmp_path / "demo-preference"
    if epochs:
        _check_the_second_act(second_act, num_pairs=416, lost=0.05)
    else:
        _check_the_second_act(second_act, num_pairs=600, lost=0.02)
    assert "+ " in (proof := next(line for line in printed.splitlines() if line.startswith("start ")))
    assert "= ln 2" in proof
    assert "rows in" in printed
    assert (folder / "model" / "model.safetensors").exists()


def _check_the_second_act(folder, *, num_pairs, lost):
    """Check that the preference is learned, no pair is left out, and that no more than `lost` of other answers is."""
    results = json.loads((folder / "results.json").read_text())
    before, after = results["before"], results["after"]
    for name in ("pairs_won", "full_sentences"):
        assert (before[name]["n"], after[name]["n"]) == (126, 126)
        assert before[name]["value"] <= 0.05
        assert after[name]["value"] >= 0.95
    assert before["margin"]["high"] < 0 < after["margin"]["low"]
    for name in ("facts", "other_questions"):
        assert after[name]["value"] >= before[name]["value"] - lost, name
    assert after["stops"]["value"] >= 0.99
    assert results["examples"] == num_pairs


def test_the_demo_leaves_a_strangers_folder_alone(tmp_path):
    from instil.demo.run import run_demo

    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="is not an earlier demo"):
        run_demo(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_the_demos_recipe_is_an_ordinary_recipe(tmp_path):
    recipe = demo_recipe(tmp_path / "run", [tmp_path / "rows.jsonl"])
    assert recipe.data.sources[0].path == str(tmp_path / "rows.jsonl")
    assert recipe.model.name == "demo"
    from instil.model.folder.location import locate

    assert set_up_chat(recipe, locate("demo")).chat.stop_tokens == ("<|im_end|>", "<|endoftext|>")
