"""One function loads a tokenizer for the proof that a user reads and for the run that trains; and its template is chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.conformance.tokenizers_made import make_tokenizer
from tests.corpus import corpus_path, needs_corpus
from tests.encoding.chats import CHATML, chat, two_turns
from tests.tiny_chat import tiny_llama, tiny_tokenizer

from instil.encoding import loading
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.loading import load_tokenizer
from instil.errors import ModelError, TemplateError
from instil.generation.engine import Engine, LoadSettings
from instil.model.folder import kept_facts
from instil.model.folder.location import locate
from instil.preparation.chat_setup import set_up_chat
from instil.recipe import Recipe

TEXTS = ("What is 2 + 3?", "Zwölf Boxkämpfer\n\tjagen <|im_start|>Viktor", "日本語 🙂 e\u0301")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_llama(layers=1).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_proof_run_and_answers_load_the_same_tokenizer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Any] = []
    own = load_tokenizer

    def recorded(*args: Any, **keywords: Any) -> Any:
        loaded.append(own(*args, **keywords))
        return loaded[-1]

    for module in ("encoding.loading", "encoding.tokenizer_setup", "generation.served_chat"):
        monkeypatch.setattr(f"instil.{module}.load_tokenizer", recorded, raising=False)
    recipe = Recipe.model_validate({"model": {"name": str(folder)}, "data": {"sources": ["rows.jsonl"]}})
    tokenizers = [
        ChatTokenizer.from_pretrained(folder).tokenizer,
        set_up_chat(recipe, locate(folder)).chat.tokenizer,
        Engine.load(folder, LoadSettings(device="cpu")).tokenizer,
    ]
    assert [id(tokenizer) for tokenizer in loaded] == [id(tokenizer) for tokenizer in tokenizers]
    for text in TEXTS:
        ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for tokenizer in tokenizers]
        assert ids[0] == ids[1] == ids[2] != []


def test_only_one_module_loads_tokenizers() -> None:
    source = Path(loading.__file__).parents[1]
    loaders = {path for path in source.rglob("*.py") if "AutoTokenizer.from_pretrained" in path.read_text("utf-8")}
    # The export compares with what plain transformers loads, on purpose.
    exporting = source / "exporting"
    assert loaders == {source / "encoding" / "loading.py", exporting / "parity.py", exporting / "read_with_4.py"}


def test_a_folder_is_read_without_the_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    asked: list[dict[str, Any]] = []

    def fail(name: str, **keywords: Any) -> Any:
        asked.append({"name": name, **keywords})
        raise OSError("no")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", fail)
    with pytest.raises(ModelError, match=f"{folder}: the tokenizer cannot be read \\(no\\). Copy it again"):
        load_tokenizer(folder)
    with pytest.raises(
        ModelError, match=r"owner/name: no tokenizer could be loaded \(no\)\. Expected a folder or Hub id"
    ):
        load_tokenizer("owner/name", revision="v1")
    assert [(call["name"], call["local_files_only"], call["revision"]) for call in asked] == [
        (str(folder), True, None),
        ("owner/name", False, "v1"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("tokenizer.json", "{", "the tokenizer cannot be read"),
        ("config.json", "{", r"config\.json: cannot be read as JSON"),
    ],
)
def test_a_damaged_file_is_named(folder: Path, name: str, content: str, says: str) -> None:
    if name == "config.json":  # transformers reads it only if nothing else says which class the tokenizer has
        (folder / "tokenizer_config.json").unlink()
    (folder / name).write_text(content)
    with pytest.raises(ModelError, match=says) as raised:
        load_tokenizer(folder)
    assert "\n" not in str(raised.value)


def test_long_texts_are_no_reason_to_warn(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tokenizer = load_tokenizer(folder)
    tokenizer.model_max_length = 3
    tokenizer("a longer text than three tokens")
    assert capfd.readouterr().err == ""


def test_a_missing_tokenizer_and_a_missing_template_are_named(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ModelError, match=rf"{tmp_path}: no model here \(found nothing\)\. Expected config\.json"):
        ChatTokenizer.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=f"{tmp_path}: a model folder without a tokenizer. Expected tokenizer.json"):
        ChatTokenizer.from_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"no/such/folder: no such model folder\. Expected `demo`, a run"):
        ChatTokenizer.from_pretrained("no/such/folder")
    bare = chat().tokenizer.__class__(tokenizer_object=chat().tokenizer.backend_tokenizer, eos_token="<|endoftext|>")
    with pytest.raises(TemplateError, match="no chat template"):
        ChatTokenizer.from_tokenizer(bare)


def test_named_templates_without_a_default_are_told_by_their_names() -> None:
    tokenizer = make_tokenizer("byte_level", template=CHATML)
    tokenizer.chat_template = {"tool_use": CHATML, "rag": CHATML}
    with pytest.raises(TemplateError, match=r"are named 'tool_use', 'rag', and none is 'default'\. .*model.template"):
        ChatTokenizer.from_tokenizer(tokenizer)


def test_the_template_for_tools_takes_over_where_tools_are_given_as_in_transformers(tmp_path) -> None:  # type: ignore[no-untyped-def]
    from tests.conformance.cases import CALLING, TOOL
    from tests.conformance.oracle import judge

    tokenizer = make_tokenizer("byte_level", template="", special=("<|im_start|>", "<|im_end|>"), eos="<|im_end|>")
    tokenizer.chat_template = {
        "default": CHATML,
        "tool_use": "Tools: {{ tools | tojson }}\n" + CHATML.replace("{{ m.content }}", "{{ m.content }}{{ m.tool_calls or '' }}"),
        "rag": "{{ documents }}",
    }  # fmt: skip
    tokenizer.save_pretrained(tmp_path)
    both = ChatTokenizer.from_pretrained(tmp_path)
    assert judge(both, CALLING, [TOOL]).kind == "exact"
    assert judge(both, two_turns()).kind == "exact"
    (example,) = both.encode({"messages": CALLING, "tools": [TOOL]})
    assert both.decode(example.token_ids).startswith("Tools: [{")
    assert both.prove().passed


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def _state(tokenizer: Any) -> dict[str, Any]:
    """Return everything by which two loaded tokenizers could differ."""
    return {
        "class": type(tokenizer),
        "arguments": tokenizer.init_kwargs,
        "name": tokenizer.name_or_path,
        "special": tokenizer.special_tokens_map,
        "template": tokenizer.chat_template,
        "length": tokenizer.model_max_length,
        "sides": (tokenizer.padding_side, tokenizer.truncation_side, tokenizer.clean_up_tokenization_spaces),
        "backend": tokenizer.backend_tokenizer.to_str(),
        "ids": [tokenizer(text)["input_ids"] for text in TEXTS],
        "decoded": [tokenizer.decode(tokenizer(text)["input_ids"]) for text in TEXTS],
    }


def _loaded_twice(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any, int]:
    """Load a tokenizer by AutoTokenizer and by what is kept of that; return both and how often AutoTokenizer ran."""
    monkeypatch.setenv("INSTIL_CACHE", str(cache))
    monkeypatch.setattr(kept_facts, "_FOUND", {"another"})
    calls: list[str] = []
    own = loading._load_any

    def counted(name: str, **options: Any) -> Any:
        calls.append(name)
        return own(name, **options)

    monkeypatch.setattr(loading, "_load_any", counted)
    return load_tokenizer(folder), load_tokenizer(folder), len(calls)


def test_a_kept_class_loads_what_auto_tokenizer_loads(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    first, second, times = _loaded_twice(folder, cache, monkeypatch)
    assert times == 1
    assert _state(first) == _state(second)


@pytest.mark.long
@pytest.mark.slow
@needs_corpus(num_cases=9)
def test_a_kept_class_loads_what_auto_tokenizer_loads_of_public_models(cache: Path, monkeypatch: pytest.MonkeyPatch):
    corpus = corpus_path()
    assert corpus is not None
    folders = [path.parent for path in sorted((corpus / "tokenizers").glob("*/tokenizer_config.json"))]
    assert len(folders) >= 9
    for folder in folders:
        with monkeypatch.context() as patch:
            first, second, times = _loaded_twice(folder, cache, patch)
        assert times == 1, folder
        assert _state(first) == _state(second), folder


def test_a_class_from_elsewhere_is_left_to_auto_tokenizer(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loading, "_class_name", lambda _: "")
    first, second, times = _loaded_twice(folder, cache, monkeypatch)
    assert times == 2
    assert _state(first) == _state(second)


def test_only_classes_of_transformers_are_kept(folder: Path):
    tokenizer = load_tokenizer(folder)
    assert loading._class_name(tokenizer).startswith("transformers.")
    own = type("Own", (type(tokenizer),), {"__module__": "somewhere"})
    tokenizer.__class__ = own
    assert loading._class_name(tokenizer) == ""


def test_a_damaged_tokenizer_is_refused_in_the_same_words(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    _loaded_twice(folder, cache, monkeypatch)
    (folder / "tokenizer.json").write_text('{"model": 1}')
    with pytest.raises(ModelError, match="the tokenizer cannot be read"):
        load_tokenizer(folder)
