"""Claims about the recipe page: form, YAML and command line mean the same; mistakes stand beside their cause."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from tests.studio.browser import assert_accessible, needs_chromium
from tests.studio.served import wait_until
from tests.studio.test_workspace import make_run

from instil.cli.worker import Children, meaning_of
from instil.errors import RecipeError
from instil.recipe import Recipe, Settings, Source
from instil.recipe.paths import path_settings
from instil.recipe.shipped import shipped_names
from instil.studio.catalogue import catalogue
from instil.studio.drafts.checks import check
from instil.studio.drafts.command_line import command_of, words_of
from instil.studio.drafts.fields import NO_FIELD, REFUSED, choices_in, fields, has_effect, source_fields
from instil.studio.drafts.form import changes_in, groups_of, shown_text, source_rows, sweep_options, sweep_rows
from instil.studio.drafts.plan_view import plan_view
from instil.studio.drafts.starts import shipped_text, text_of_meaning, text_of_run
from instil.studio.drafts.store import MOST_DRAFTS, Drafts
from instil.studio.drafts.text import REMOVED, edited, flat_settings, settings_in
from instil.sweeps.space import plain_kinds

LISTS = ("data.sources", "data.heldout")


def sent_form(recipe_settings):
    """Return all fields of a form as a browser sends them."""
    flat = flat_settings(recipe_settings)
    sweep = flat.get("sweep", {})
    form = {
        f"f:{name}": shown_text(field, flat.get(name, REMOVED), sweep.get(name, REMOVED))
        for name, field in fields().items()
        if field.kind != "sources"
    }
    for name in LISTS:
        for number, row in enumerate(source_rows(recipe_settings, name)):
            form |= {f"s:{name}:{number}:{key}": text for key, text in row.items()}
    for number, (name, values) in enumerate(sweep_rows(recipe_settings)):
        form |= {f"w:{number}:name": name, f"w:{number}:values": values}
    return form | {f"w:{name}": text for name, text in sweep_options(recipe_settings).items()}


def value_strategy(name, field):
    """Return values that a setting takes."""
    if field.kind == "switch":
        return st.booleans()
    if field.kind == "choice":
        return st.sampled_from(field.choices)
    if field.kind == "number":
        kind = Recipe.model_fields[name.partition(".")[0]].annotation
        info = kind.model_fields[field.label] if "." in name else Recipe.model_fields[name]
        is_whole = "int" in str(info.annotation) and "float" not in str(info.annotation)
        if "warmup" in name or is_whole:
            return st.integers(8, 1000)
        return st.sampled_from([0.5, 0.25, "1e-3", 0.125])
    special = {
        "optimizer.betas": st.just([0.9, 0.95]),
        "adapter.targets": st.sampled_from(["all-linear", ["q_proj", "v_proj"]]),
        "tracking.to": st.lists(st.sampled_from(choices_in(Recipe.model_fields["tracking"].annotation.model_fields["to"].annotation)), min_size=1, max_size=2, unique=True),
        "evaluate.tasks": st.just(["numeric"]),
        "evaluate.samples": st.lists(st.sampled_from(["What is 1+1?", "a, b: #c", "'quoted'"]), min_size=1, max_size=2),
        "training.freeze": st.just(["model.embed*", "lm_head"]),
        "data.columns": st.just({"user": "{q}: #x", "assistant": "{a}"}),
        "data.template_variables": st.just({"style": "short"}),
        "data.date": st.just("2026-11-30"),
        "data.encoding": st.just("gb18030"),
        "data.delimiter": st.sampled_from([";", "tab"]),
        "data.sources": st.lists(st.sampled_from(["rows.jsonl", {"path": "b.jsonl", "rows": 3, "weight": 0.5}, "名.jsonl"]), min_size=1, max_size=3),
        "data.heldout": st.just([{"path": "h.jsonl", "format": "kto"}]),
    }  # fmt: skip
    return special.get(name, st.sampled_from(["one", "a/b", "x: y", "off", "2024-01-01", "y #x"]))


@st.composite
def recipes(draw):
    """Make settings that are a recipe; combinations that a recipe refuses, such as random weights in 4 bits, are none."""
    names = draw(st.lists(st.sampled_from(sorted(fields())), min_size=1, max_size=8, unique=True))
    made = {name: draw(value_strategy(name, fields()[name])) for name in names}
    if draw(st.booleans()):
        swept = {
            "optimizer.lr": ["1e-4", "3e-4"],
            "optimizer.schedule": ["linear", "wsd"],
            "training.shuffle": [True, False],
        }
        made = {name: value for name, value in made.items() if name not in swept} | {"sweep": swept}
    try:
        Recipe.from_mapping(settings_in(edited("", made).text))
    except RecipeError:
        reject()
    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", shipped_names())
def test_a_form_that_nobody_touched_changes_nothing_and_the_command_means_the_same(name):
    text = shipped_text(name)
    before = settings_in(text)
    assert changes_in(sent_form(before), before) == {}
    assert edited(text, {}).text == text
    words, left = words_of(before)
    assert left == []
    again = text_of_meaning(meaning_of(words), "")
    assert Recipe.from_mapping(settings_in(again)) == Recipe.from_mapping(before)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(recipes())
def test_form_and_yaml_mean_the_same_for_any_recipe(made):
    edit = edited("", made)
    assert not edit.is_rewritten
    read = settings_in(edit.text)
    assert flat_settings(read) == made
    assert changes_in(sent_form(read), read) == {}
    filled = edited("", changes_in(sent_form(read), {})).text
    wanted = {
        name: value
        for name, value in made.items()
        if name not in fields() or str(value).lower() != fields()[name].default
    }
    assert Recipe.from_mapping(settings_in(filled)) == Recipe.from_mapping(wanted)


@pytest.mark.slow
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(recipes())
def test_the_command_line_means_the_same_for_any_recipe(made):
    read = settings_in(edited("", made).text)
    words, left = words_of(read)
    assert left == []
    again = settings_in(text_of_meaning(meaning_of(words), ""))
    assert Recipe.from_mapping(again) == Recipe.from_mapping(read)


@pytest.mark.parametrize("name", shipped_names())
def test_a_changed_setting_leaves_comments_and_all_else_as_they_were(name):
    text = shipped_text(name)
    comments = [line.partition("#")[2] for line in text.splitlines() if "#" in line]
    changes = {"optimizer.lr": "3e-4", "training.epochs": 2, "model.revision": "main", "data.max_tokens": 99}
    edit = edited(text, changes | {"sweep": {"adapter.rank": [4, 8]}, "output": "runs/x"})
    assert not edit.is_rewritten
    assert [line.partition("#")[2] for line in edit.text.splitlines() if "#" in line] == comments
    after = flat_settings(settings_in(edit.text))
    assert after == flat_settings(settings_in(text)) | changes | {"sweep": {"adapter.rank": [4, 8]}, "output": "runs/x"}
    without = edited(edit.text, dict.fromkeys([*changes, "sweep", "output"], REMOVED)).text
    assert flat_settings(settings_in(without)).keys() == flat_settings(settings_in(text)).keys() - changes.keys()


@pytest.mark.parametrize(
    ("text", "changes", "expected"),
    [
        ("model: demo  # small\n", {"model.revision": "x"}, "model:\n  name: demo  # small\n  revision: x\n"),
        ("optimizer: {lr: 1, clip: 2}\n", {"optimizer.lr": 3}, "optimizer:\n  lr: 3\n  clip: 2\n"),
        ("optimizer.lr: 1  # dots\n", {"optimizer.lr": 2}, "optimizer.lr: 2  # dots\n"),
        ("data:\n# empty\n", {"data.max_tokens": 8}, "data:\n  max_tokens: 8\n# empty\n"),
        ("data:\n  columns:\n    user: a\n  # why\n  max_tokens: 8\n", {"data.columns": REMOVED}, "data:\n  # why\n  max_tokens: 8\n"),
        ("training:\n  seed:  # any\n", {"training.seed": 4}, "training:\n  seed: 4  # any\n"),
        ("a: &x 1\nb: *x\n", {"output": "o"}, "a: &x 1\nb: *x\noutput: o\n"),
        ("output: 'x'", {"output": REMOVED}, ""),
        ("data:\n  sources:\n  - a.jsonl  # one\n  # two\n\ntraining:\n  seed: 1\n", {"data.sources": ["b"]}, "data:\n  sources: [b]\n  # two\n\ntraining:\n  seed: 1\n"),
    ],
)  # fmt: skip
def test_an_edit_is_as_small_as_it_can_be(text, changes, expected):
    edit = edited(text, changes)
    assert (edit.text, edit.is_rewritten) == (expected, False)


def test_a_change_that_does_not_fit_writes_the_text_anew_and_says_so():
    edit = edited("training: &a\n  seed: 1\nx: *a\n", {"training.seed": REMOVED})
    assert edit.is_rewritten
    assert settings_in(edit.text) == {"x": {"seed": 1}}


def test_number_fields_take_several_values_and_ranges():
    form = sent_form({}) | {"f:optimizer.lr": "1e-4, 3e-4", "f:adapter.rank": "4..64", "w:search": "optuna"}
    changes = changes_in(form, {})
    assert changes == {"sweep": {"optimizer.lr": ["1e-4", "3e-4"], "adapter.rank": "4..64", "search": "optuna"}}
    swept = settings_in(edited("", changes).text)
    assert sent_form(swept)["f:optimizer.lr"] == "1e-4, 3e-4"
    back = changes_in(sent_form(swept) | {"f:optimizer.lr": "1e-4"}, swept)
    assert back == {"optimizer.lr": "1e-4", "sweep": {"adapter.rank": "4..64", "search": "optuna"}}


def test_a_setting_is_shown_where_it_has_an_effect_or_is_set(tmp_path):
    def shown(recipe_settings):
        checked = check(recipe_settings, root=tmp_path, name="run")
        groups = groups_of(recipe_settings, checked)
        return {shown.field.name: shown for group in groups for shown in (*group.main, *group.more)}

    assert not any(name.startswith("preference.") or name == "adapter.rank" for name in shown({}))
    assert {"adapter.kind", "optimizer.lr", "training.objective"} <= shown({}).keys()
    dpo = shown({"training": {"objective": "dpo"}})
    assert {"preference.beta", "preference.length_normalized"} <= dpo.keys()
    assert "preference.margin" not in dpo
    assert "adapter.rank" in shown({"sweep": {"adapter.kind": ["none", "lora"]}})
    assert shown({"adapter": {"rank": 8}})["adapter.rank"].has_effect is False
    assert not NO_FIELD & shown({}).keys()
    assert has_effect("optimizer.momentum", {"optimizer.name": "muon"})


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("optimizer: {lr: fast}", "optimizer.lr", "found 'fast'. Input should be a number"),
        ("training: {batch_size: 0, epochs: -1}", "training.epochs", "greater than 0"),
        ("training: {batch_size: 0, epochs: -1}", "training.batch_size", "greater than or equal to 1"),
        ("training: {objective: rlhf}", "training.objective", "found 'rlhf'"),
        ("model: {quantize: 4bit, initialise: random}", "model.quantize", "Random weights are not quantised"),
        ("sweep: {optimizer.lr: [1e-4, 0.0001]}", "sweep", "optimizer.lr: found 1e-4 twice"),
        ("training: {num_epochs: 3}", "training.num_epochs", "unknown key"),
        ("training: 5", "training", "mapping of settings"),
    ],
)
def test_a_mistake_stands_beside_its_setting_in_the_recipes_words(text, name, words, tmp_path):
    checked = check(settings_in(text), root=tmp_path, name="run")
    assert checked.recipe is None
    assert words in " ".join(problem.text for problem in checked.of(name)), checked.problems
    assert bool(checked.elsewhere) == (name not in fields() and name != "sweep")


@pytest.mark.parametrize(
    ("text", "name", "key"),
    [
        ("model: {trust_remote_code: true}", "model.trust_remote_code", "recipe.forbidden"),
        ("model.trust_remote_code: 'yes'", "model.trust_remote_code", "recipe.forbidden"),
        ("sweep: {model.trust_remote_code: [true, false]}", "model.trust_remote_code", "recipe.forbidden"),
        ("sweep: {model: {trust_remote_code: [true]}}", "model.trust_remote_code", "recipe.forbidden"),
        ("output: /tmp/elsewhere", "output", "recipe.outside"),
        ("output: ../elsewhere", "output", "recipe.outside"),
        ("output: .instil-studio/x", "output", "recipe.outside"),
        ("data: /etc/passwd", "data.sources", "recipe.outside"),
        ("data: {heldout: {path: ../x.jsonl}}", "data.heldout", "recipe.outside"),
        ("data: link/x.jsonl", "data.sources", "recipe.outside"),
        ("sweep: {data.sources: [[/etc/passwd]]}", "data.sources", "recipe.outside"),
        ("data: {store: ~/s}", "data.store", "recipe.outside"),
        ("model: {template: /etc/passwd}", "model.template", "recipe.outside"),
        ("model: ../base", "model.name", "recipe.outside"),
        ("model: link/base", "model.name", "recipe.outside"),
        ("model: models", "model.name", "recipe.outside"),
        ("sweep: {model.name: [demo, /etc]}", "model.name", "recipe.outside"),
        ("model: {template: 'link:rag'}", "model.template", "recipe.outside"),
        ("model: {template: away.jinja}", "model.template", "recipe.outside"),
        ("model: {template: '{x}/../../away'}", "model.template", "recipe.outside"),
        ("adapter: {kind: lora, resume_from: ../old}", "adapter.resume_from", "recipe.outside"),
        ("data: models", "data.sources", "recipe.outside"),
        ("data: 'models/*.jsonl'", "data.sources", "recipe.outside"),
        ("data: .", "data.sources", "recipe.outside"),
        ("data: https://example.com/x.jsonl", "data.sources", "recipe.outside"),
        ("data: {heldout: 's3://bucket/x.jsonl'}", "data.heldout", "recipe.outside"),
        ("data: {cluster: ray}", "data.cluster", "recipe.sends"),
        ("tracking: {to: [wandb]}", "tracking.to", "recipe.sends"),
        ("tracking: {to: [tensorboard, trackio]}", "tracking.to", "recipe.sends"),
        ("tracking: {project: mine}", "tracking.project", "recipe.sends"),
        ("sweep: {tracking.to: [[wandb]]}", "tracking.to", "recipe.sends"),
        ("data: '-'", "data.sources", "recipe.no_input"),
        ("data: nothing.jsonl", "data.sources", "recipe.no_data"),
    ],
)
def test_what_a_page_may_not_set_is_refused_by_name(text, name, key, tmp_path):
    root = tmp_path / "workspace"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    (root / "away.jinja").symlink_to(tmp_path / "x.jsonl")
    (root / "models").mkdir()
    (root / "models" / "rows.jsonl").symlink_to(tmp_path / "x.jsonl")
    (tmp_path / "x.jsonl").write_text("{}")
    checked = check(settings_in(text), root=root, name="run")
    assert checked.recipe is None
    assert key in [problem.key for problem in checked.of(name)]


def test_data_of_the_workspace_and_of_the_hub_may_be_used(tmp_path):
    (tmp_path / "a b.jsonl").write_text("{}")
    for path in ("a b.jsonl", str(tmp_path / "a b.jsonl"), "*.jsonl", "owner/rows", "hf://datasets/owner/rows"):
        assert check({"data": {"sources": [path]}}, root=tmp_path, name="run").problems == (), path
    assert check({"model": {"trust_remote_code": False}}, root=tmp_path, name="run").problems == ()
    (tmp_path / "runs" / "a" / "adapter").mkdir(parents=True)
    (tmp_path / "runs" / "a" / "model").symlink_to("adapter")
    for made in (
        {"model": {"name": "owner/model", "template": "runs/a:rag"}},
        {"model": {"name": "runs/a", "template": "{% for m in messages %}../{{ m.content }}{% endfor %}"}},
        {"model": {"name": str(tmp_path / "runs" / "a"), "template": "Q: {user}/../A: {assistant}</s>"}},
        {"adapter": {"kind": "lora", "resume_from": "runs/a/adapter"}, "tracking": {"to": ["tensorboard"]}},
        {"output": "runs/{name}", "data": {"store": "stores/a"}, "tracking": {"to": []}},
        {"data": {"cluster": "none"}},
    ):
        assert check(made, root=tmp_path, name="run").problems == (), made


@pytest.mark.parametrize("address", ["s3://bucket/a.jsonl", "gs://bucket/a.jsonl", "https://example.com/a.jsonl"])
def test_an_address_leads_out_of_the_workspace(tmp_path, address):
    for name in ("data.sources", "output", "data.store"):
        problems = check(settings_in(f"{name}: {address}"), root=tmp_path, name="run").of(name)
        assert "recipe.outside" in [problem.key for problem in problems], name


REACHING = re.compile(
    r"wandb|trackio|tracker|bucket|telemetry|report to|push|upload|publish|remote|\bcode\b|https?|\burl\b|host|address|secret|"
    r"password|credential|api.key|\bkey\b|access.token|account|webhook|e-?mail",
    re.IGNORECASE,
)
"""What the name, the words or the choices of a setting have that runs foreign code or sends data elsewhere."""
HARMLESS = {"source.path": "a page may name no address: test_an_address_leads_out_of_the_workspace"}
"""Settings whose words have one of them, and why they do neither."""


def every_setting():
    """Yield the name and the field of every setting of the schema; those of a source as ``source.NAME``."""
    for group, section in Recipe.model_fields.items():
        if isinstance(section.annotation, type) and issubclass(section.annotation, Settings):
            yield from ((f"{group}.{name}", info) for name, info in section.annotation.model_fields.items())
        else:
            yield group, section
    yield from ((f"source.{name}", info) for name, info in Source.model_fields.items())


def test_no_setting_of_the_schema_that_sends_data_or_runs_code_can_be_set():
    found = {
        name
        for name, info in every_setting()
        if REACHING.search(f"{name.replace('_', ' ')} {info.description} {' '.join(choices_in(info.annotation))}")
    }
    assert found - HARMLESS.keys() == REFUSED.keys()
    for name in REFUSED:
        for value in (True, "x", ["wandb"]):
            problems = check(settings_in(f"{name}: {json.dumps(value)}"), root=Path("/w"), name="run").of(name)
            assert REFUSED[name] in [problem.key for problem in problems], (name, value)


NO_PATH = {
    "threads", "device", "sweep", "model.revision", "adapter.targets", "data.encoding", "data.delimiter", "data.sheet",
    "data.date", "training.freeze", "evaluate.tasks", "evaluate.samples", "tracking.project", "tracking.name", "data.columns",
    "data.template_variables", "source.split", "source.subset", "source.revision", "source.columns", "source.encoding",
    "source.delimiter", "source.sheet",
}  # fmt: skip
"""Settings that take any text, and are never used as a path."""


def test_every_setting_that_takes_any_text_is_a_path_or_known_not_to_be_one():
    texts = {
        name
        for name, info in every_setting()
        if plain_kinds(info.annotation) & {str, dict} or "str" in str(info.annotation)
    }
    paths = {*path_settings(), "source.path"}
    assert texts - NO_PATH - {"data.sources", "data.heldout"} == paths
    assert paths & NO_PATH == set()


@pytest.mark.parametrize("name", path_settings())
@pytest.mark.parametrize("path", ["/etc", "../x", "~/x", "link/x", "runs/../../x", ".instil-studio/x"])
def test_no_path_of_the_schema_leads_out_of_the_workspace(name, path, tmp_path):
    root = tmp_path / "workspace"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    group, dot, last = name.partition(".")
    settings = {group: {last: path}} if dot else {name: path}
    if group == "adapter":
        settings["adapter"]["kind"] = "lora"
    assert "recipe.outside" in [problem.key for problem in check(settings, root=root, name="run").of(name)]


def test_a_runs_recipe_becomes_what_is_not_its_default(tmp_path):
    recipe = Recipe.from_mapping({"data": "rows.jsonl", "adapter": "lora", "optimizer.lr": 1e-4, "output": "runs/a"})
    recipe.save(tmp_path / "recipe.yaml")
    found = flat_settings(settings_in(text_of_run(tmp_path)))
    assert found == {
        "adapter.kind": "lora",
        "data.sources": ["rows.jsonl"],
        "training.epochs": 3.0,
        "optimizer.lr": 0.0001,
    }


def test_a_command_says_what_it_cannot_express():
    command, left = command_of(settings_in("optimizer: {clip: null, lr: 1e-4}\ndata: a b.jsonl\n"))
    assert command == "instil train --optimizer.lr=1e-4 '--data=a b.jsonl'"
    assert left == ["optimizer.clip"]


def test_english_descriptions_are_those_of_the_schema():
    words = catalogue("en")
    for field in (*fields().values(), *source_fields().values()):
        assert words[f"recipe.about_{field.key}"] == field.about


def test_drafts_stay_on_the_disk_and_the_oldest_go(tmp_path):
    drafts = Drafts(tmp_path)
    made = [drafts.add(name="run", text=f"output: runs/{number}\n") for number in range(MOST_DRAFTS + 2)]
    assert len(drafts.numbers()) == MOST_DRAFTS
    assert drafts.load(made[0].number) is None
    drafts.change(made[-1].number, planned="x")
    assert Drafts(tmp_path).load(made[-1].number).text == made[-1].text
    (drafts.folder / f"{made[-1].number}.json").write_text("{cut")
    assert drafts.load(made[-1].number) is None


def test_a_command_that_is_cancelled_as_it_starts_is_not_killed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.jsonl")
    children = Children()
    children._is_warm = True
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in the process of the studio
    try:
        children.take({"id": 1, "run": ["convert", "pipe.jsonl", "out.jsonl"], "out": str(tmp_path / "1")})
        children.take({"cancel": 1})
        assert wait_until(children.ended) == [(1, 130)]
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_cancelled_command_ends_and_others_go_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.jsonl")
    children = Children()
    children._is_warm = True
    children.take({"id": 1, "run": ["convert", "pipe.jsonl", "out.jsonl"], "out": str(tmp_path / "1")})
    children.take({"id": 2, "read": ["train", "--optimizer.lr", "x"], "out": str(tmp_path / "2")})
    children.take({"cancel": 1})
    ended = {}
    wait_until(lambda: ended.update(children.ended()) or not children.running)
    assert ended == {1: 130, 2: 2}
    assert "Input should be a number" in (tmp_path / "2").read_text()


def draft_page(served, **fields_sent):
    """Make a draft, and return its address."""
    rows = [{"question": f"{number}+1", "answer": f"{number + 1}"} for number in range(60)]
    (served.root / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return served.get("/recipe?" + urlencode({"data": "rows.jsonl"} | fields_sent)).headers["location"]


def test_a_draft_is_changed_by_form_yaml_and_command_and_survives_a_restart(served):
    address = draft_page(served)
    text = served.get(address).text
    assert 'value="rows.jsonl"' in text
    good = "data:\n  sources: [rows.jsonl]\n"
    text = served.post(address, good=good, yaml=good, name="rows", **{"f:optimizer.lr": "1e-4"}).text
    assert "lr: 1e-4" in text
    assert "--optimizer.lr=1e-4" in text
    text = served.post(
        address, good=good, yaml=good + "training: {epochs: 2}\n", name="rows", **{"f:adapter.kind": "lora"}
    ).text
    assert "<textarea" in text
    kept = Drafts(served.root).load(int(address.rpartition("/")[2]))
    assert settings_in(kept.text) == {
        "data": {"sources": ["rows.jsonl"]},
        "training": {"epochs": 2},
        "adapter": {"kind": "lora"},
    }
    broken = served.post(address, good=kept.text, yaml="training: [", name="rows").text
    assert "not valid YAML" in broken
    assert "disabled" in broken
    assert Drafts(served.root).load(kept.number).good == kept.text
    assert served.get("/recipe").headers["location"] == address
    assert served.post("/recipe/new", start="shipped:dpo").status == 303
    assert served.post("/recipe/new", start="file:../x.yaml").status == 404
    assert served.post("/recipe/new", start="shipped:../x").status == 422


def test_columns_of_the_data_page_come_along(served):
    address = draft_page(served, columns=json.dumps({"user": "{q}", "assistant": "{a}"}))
    kept = Drafts(served.root).load(int(address.rpartition("/")[2]))
    assert settings_in(kept.text)["data"]["sources"] == [
        {"path": "rows.jsonl", "format": "pattern", "columns": {"user": "{q}", "assistant": "{a}"}}
    ]


@pytest.mark.slow
def test_a_draft_is_saved_and_started_with_what_was_on_the_page(served):
    os.mkfifo(served.root / "pipe.jsonl")
    served.queue.add(["convert", "pipe.jsonl", "out.jsonl"])  # the device is busy, so that nothing trains here
    address = draft_page(served)
    text = "# mine\ndata: rows.jsonl\ntraining: {max_steps: 2}\n"
    form = {"good": text, "yaml": text, "name": "first"}
    assert served.post(f"{address}/save", **form, file="recipes/first.yaml").status == 303
    assert (served.root / "recipes" / "first.yaml").read_text() == text
    (served.root / "recipes" / "other.yaml").write_text("x: 1\n")
    assert "Choose another name" in served.post(f"{address}/save", **form, file="recipes/other.yaml").text
    for name in ("../x.yaml", "/tmp/x.yaml", ".instil-studio/x.yaml"):
        assert "is not in the workspace" in served.post(f"{address}/save", **form, file=name).text
    (served.root / "recipes" / "first.yaml").write_text("changed: elsewhere\n")
    assert "Choose another name" in served.post(f"{address}/save", **form, file="recipes/first.yaml").text
    where = served.post(f"{address}/start", **form).headers["location"]
    assert where == "/runs/run?run=runs/first"
    assert served.get(where).status == 200
    job = served.queue.jobs()[0]
    assert (job.argv[0], job.run, job.lane, job.title) == ("train", "runs/first", "device", "first")
    assert (served.root / job.argv[1]).read_text() == text
    assert "Choose another name" in served.post(f"{address}/start", **form).text
    wrong = form | {"yaml": "model: {trust_remote_code: true}\ndata: rows.jsonl\n", "name": "second"}
    assert "model.trust_remote_code: cannot be set from a page" in served.post(f"{address}/start", **wrong).text
    assert "was not saved" in served.post(f"{address}/save", **wrong, file="second.yaml").text
    away = form | {"yaml": "model: ../base\ndata: rows.jsonl\n", "name": "second"}
    assert "start the studio at a higher folder" in served.post(f"{address}/start", **away).text
    assert "was not saved" in served.post(f"{address}/save", **away, file="runs/x/recipe.yaml").text
    assert len(served.queue.jobs()) == 2
    make_run(served.root / "runs" / "third")
    assert "Choose another name" in served.post(f"{address}/start", **form | {"name": "third"}).text
    assert "does not begin with a dot" in served.post(f"{address}/start", **form | {"name": "../x"}).text


@pytest.mark.slow
def test_a_command_line_fills_the_draft_and_what_is_not_for_pages_is_refused(served):
    address = draft_page(served)
    typed = "instil train dpo-lora --data rows.jsonl --adapter.rank 4 --optimizer.lr 1e-4,3e-4 \\\n --quiet"
    assert served.post(f"{address}/command", command=typed).status == 303
    kept = Drafts(served.root).load(int(address.rpartition("/")[2]))
    found = flat_settings(settings_in(kept.text))
    assert (found["adapter.rank"], found["data.sources"]) == (4, ["rows.jsonl"])
    assert found["sweep"] == {"optimizer.lr": [0.0001, 0.0003]}
    assert "# higher: closer to the reference" in kept.text
    for typed, words in (
        ("instil train rows.jsonl --model.trust-remote-code", "cannot be set from a page"),
        ("instil train rows.jsonl --model.trust_remote_code=true", "cannot be set from a page"),
        ("instil serve runs/a --host 0.0.0.0", "Expected a command such as"),
        ("instil train rows.jsonl --host 0.0.0.0", "cannot be set from a page"),
        ("instil train rows.jsonl --tracking.to=wandb", "cannot be set from a page"),
        ("instil train rows.jsonl --resume", "is no setting of a recipe"),
        ("instil train rows.jsonl --lr 1", "unknown option"),
        ("instil train 'rows.jsonl", "No closing quotation"),
        ("instil train ../x.yaml", "is not in the workspace"),
    ):
        answer = served.post(f"{address}/command", command=typed)
        assert words in answer.text, typed
        assert shlex.quote(typed)[1:9] in answer.text  # what was typed stays
    assert Drafts(served.root).load(kept.number).text == kept.text


def test_the_plan_of_a_sweep_shows_every_run():
    memory = dict.fromkeys(("weights", "gradients", "optimizer", "activations", "logits", "other"), 10) | {"peak": 60}
    run = {
        "steps": 3,
        "seconds": 5.0,
        "memory": memory,
        "free_memory": 50,
        "fits": False,
        "micro_batch_tokens": 256,
        "data": {},
    }
    view = plan_view({"plans": {"a": run, "b": run}, "runs": 2, "best_by": "loss", "seconds": 10.0, "disk": 7, "notes": [], "warnings": ["w"]})  # fmt: skip
    assert [shown["name"] for shown in view["runs"]] == ["a", "b"]
    assert not view["memory"]["fits"]
    assert float(view["memory"]["free_x"]) < 1000
    assert view["warnings"] == ["w"]


@pytest.mark.long
@needs_chromium
def test_a_recipe_from_data_to_a_job_in_a_browser(opened, served):
    from playwright.sync_api import expect

    os.mkfifo(served.root / "pipe.jsonl")
    served.queue.add(["convert", "pipe.jsonl", "out.jsonl"])
    page = opened
    address = draft_page(served)
    page.goto(served.url + address)
    assert page.locator("[id='f-adapter.rank']").count() == 0
    page.get_by_label("kind").first.select_option("lora")
    page.locator("[id='f-adapter.rank']").fill("x")
    expect(page.locator("[id='f-adapter.rank-problem']")).to_contain_text("found 'x'. Input should be a whole number")
    assert page.evaluate("document.activeElement.id") == "f-adapter.rank"
    page.locator("[id='f-adapter.rank']").fill("4")
    expect(page.locator("#yaml")).to_have_value(re.compile("rank: 4"))
    page.locator("#yaml").press("Control+End")
    page.keyboard.type("training:\n  max_steps: 3  # short\n")
    expect(page.locator("[id='f-training.max_steps']")).to_have_value("3")
    expect(page.locator("#plan .memory-kinds")).to_be_visible(timeout=120_000)
    expect(page.locator("#plan-state")).to_have_text("")
    assert page.locator("#plan dt", has_text=re.compile("^steps$")).locator("+ dd").inner_text() == "3"
    page.locator("[id='f-optimizer.lr']").fill("1e-4, 3e-4")
    expect(page.locator("#plan-state")).not_to_have_text("")
    expect(page.locator("#start-state")).to_contain_text("2 runs")
    assert "max_steps: 3  # short" in page.locator("#yaml").input_value()
    assert '--sweep={"optimizer.lr": ["1e-4", "3e-4"]}' in page.locator("#command").input_value()
    page.locator("[id='f-training.batch_size']").fill("7")
    page.get_by_role("button", name="Tiếng Việt").click()  # at once: what was typed goes first
    expect(page.locator("h1")).to_have_text("Công thức huấn luyện")
    expect(page.locator("[id='f-training.batch_size']")).to_have_value("7")
    page.get_by_role("button", name="English").click()
    expect(page.locator("[id='f-optimizer.lr']")).to_have_value("1e-4, 3e-4")
    expect(page.locator("#plan table")).to_be_visible(timeout=120_000)
    assert_accessible(page)
    page.get_by_label("Name of the run").fill("short")
    page.get_by_role("button", name="Start training").click()
    page.get_by_role("heading", name="short").wait_for()
    job = served.queue.jobs()[0]
    assert (job.run, job.state, page.url) == ("runs/short", "queued", f"{served.url}/jobs/{job.number}")
