"""The same conversation gives the same ids and weights in Python, inspect, prepare, train, chat and serve."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.generation.http_api.served import Served
from tests.training.command_line import exit_code, make_base

import instil
from instil.data.messages import as_conversation
from instil.generation.engine import Engine
from instil.preparation.store import ExampleStore

TEMPLATE = (
    "{{ strftime_now('%Y-%m-%d') }}{% for m in messages %}<|turn|>{{ m.role }}{% if tone is defined %} ({{ tone }}){% endif %}\n"
    "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}<|done|>"
    "{% endfor %}{% if add_generation_prompt %}<|turn|>assistant{% if tone is defined %} ({{ tone }}){% endif %}\n"
    "{% endif %}"
)
CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "2+2?"},
    {"role": "assistant", "content": "<think>easy</think>4"},
    {"role": "user", "content": "And 3 more?"},
    {"role": "assistant", "content": "7"},
]


def train(root: Path, base: str, *, settings: dict[str, Any], template: str | None, adapter: bool) -> tuple[Path, Path]:
    """Train one step on the conversation; return the run folder and the recipe."""
    root.mkdir(exist_ok=True)
    (root / "rows.jsonl").write_text(json.dumps({"messages": CONVERSATION}) + "\n")
    recipe = {
        "model": {"name": base} | ({"template": template} if template else {}),
        "data": {"sources": [str(root / "rows.jsonl")], "store": str(root / "store"), "heldout_share": 0.0} | settings,
        "training": {"max_steps": 1, "batch_size": 1, "precision": "fp32"},
        "adapter": {"kind": "lora", "rank": 2} if adapter else {"kind": "none"},
        "output": str(root / "run"),
    }
    (root / "recipe.yaml").write_text(json.dumps(recipe))
    assert exit_code("train", str(root / "recipe.yaml")) == 0
    return root / "run", root / "recipe.yaml"


def trained_ids(root: Path) -> list[tuple[list[int], list[float]]]:
    """Return the examples in the store that the run was trained on."""
    (folder,) = [path.parent for path in (root / "store").rglob("store.json")]
    store = ExampleStore.open(folder)
    return [(list(map(int, store[n].token_ids)), list(map(float, store[n].weights))) for n in range(len(store))]


SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "of its own": {
        "template_variables": {"tone": "calm"},
        "date": "2031-05-06",
        "inline_reasoning": "keep",
        "train_on": "last",
    },
}


@pytest.mark.parametrize(
    ("adapter", "of", "template"),
    [
        pytest.param(False, "defaults", None, marks=pytest.mark.slow),
        (False, "of its own", TEMPLATE),
        pytest.param(True, "defaults", TEMPLATE, marks=pytest.mark.slow),
        (True, "of its own", None),
    ],
    ids=["full-chatml by default", "full-own template", "lora-own template", "lora-chatml by default"],
)
def test_python_sees_what_a_run_trains_and_serves(
    adapter: bool, of: str, template: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every pair of adapter, settings and template occurs."""
    settings = SETTINGS[of]
    base = str(make_base(tmp_path / "base"))
    run, recipe = train(tmp_path / "work", base, settings=settings, template=template, adapter=adapter)
    trained = trained_ids(tmp_path / "work")
    assert trained
    names: list[Any] = [run, run / "model", instil.Run.open(run), *([run / "adapter"] if adapter else [])]
    for name in names:
        chat = instil.ChatTokenizer.from_pretrained(name)
        assert [(list(e.token_ids), list(e.weights)) for e in chat.encode(CONVERSATION)] == trained, name
        prompt = chat.prompt(CONVERSATION[:-1])
        assert prompt == trained[-1][0][: len(prompt)], "serving's prompt is what was trained"
        engine = Engine.load(name)  # what chat, generate, evaluate and serve prompt with
        assert engine.prompt(as_conversation(CONVERSATION[:-1])) == prompt
        assert engine.stop_ids == chat.stop_ids
    if not settings:
        # The base gets its template and tokens exactly as in the run.
        own = instil.ChatTokenizer.from_pretrained(base, template=template)
        assert [(list(e.token_ids), list(e.weights)) for e in own.encode(CONVERSATION)] == trained
        assert own.prove().passed
    capsys.readouterr()
    assert exit_code("inspect", str(recipe), "--row", "1") == 0
    assert "7" in capsys.readouterr().out


@pytest.mark.slow
def test_a_served_request_has_the_ids_of_python(tmp_path: Path) -> None:

    base = str(make_base(tmp_path / "base"))
    run, _ = train(tmp_path / "work", base, settings=SETTINGS["of its own"], template=TEMPLATE, adapter=False)
    engine = Engine.load(run)
    chat = instil.ChatTokenizer.from_pretrained(run)
    with Served(engine, max_new_tokens=8, max_body_mb=1) as served, served.client() as client:
        answer = client.chat.completions.create(model="tiny", messages=CONVERSATION[:-1], max_tokens=1)
    assert answer.usage.prompt_tokens == len(chat.prompt(CONVERSATION[:-1]))


@pytest.mark.parametrize(
    "name", [5, None, b"demo", 3.5, [], {}, object(), "no\0name", "", "demo/none", Path("nowhere")]
)
def test_what_is_no_model_is_an_error_in_plain_words(name: Any) -> None:
    with pytest.raises(instil.InstilError):
        instil.ChatTokenizer.from_pretrained(name)
    with pytest.raises(instil.InstilError):
        Engine.load(name)
