"""Uploads, against a Hub on this machine: branches, tags, and what an upload that fails midway says."""

from __future__ import annotations

import pytest
from tests.exporting.hub import local_hub

from instil.errors import ExportError
from instil.exporting.push import Upload, check_push, push

TOKEN = "hf_verysecrettoken1234"


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # the stand-in is on this machine
    with local_hub() as server:
        yield server


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\nhello", encoding="utf-8")
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    return tmp_path


def test_a_folder_is_uploaded_with_its_tags(hub, folder):
    upload = Upload("me/model", endpoint=hub.endpoint)
    upload.start(["v1", "latest"])
    address = upload.send(folder, tags=["v1", "latest"])
    assert [(branch, set(files)) for branch, files in hub.commits] == [("main", {"README.md", "config.json"})]
    assert hub.tags == {"v1": "1" * 40, "latest": "1" * 40}
    assert address.endswith(f"/commit/{'1' * 40}")
    assert upload.done == [f"main: {address}", "tag v1", "tag latest"]
    assert hub.is_private


def test_a_branch_is_made_or_used_again(hub, folder):
    for _ in range(2):
        Upload("me/model", endpoint=hub.endpoint).send(folder, branch="step-120")
    assert [branch for branch, _ in hub.commits] == ["step-120", "step-120"]
    assert hub.branches == {"main", "step-120"}


def test_a_tag_that_is_there_is_never_moved_and_nothing_is_uploaded(hub, folder):
    hub.tags["v1"] = "9" * 40
    with pytest.raises(ExportError, match=r"has the tag v1 already.*nothing was uploaded"):
        Upload("me/model", endpoint=hub.endpoint).start(["v0", "v1"])
    assert hub.commits == []
    assert hub.tags == {"v1": "9" * 40}


@pytest.mark.parametrize(("refused", "there"), [("/commit/", ""), ("/tag/", "On the Hub are: main: http://127"),
                                                ("/branch/", "")])  # fmt: skip
def test_a_failure_midway_says_what_is_there(refused, there, hub, folder):
    hub.refused = refused
    upload = Upload("me/model", endpoint=hub.endpoint)
    upload.start(["v1"])
    with pytest.raises(ExportError) as error:
        upload.send(folder, branch="step-1" if refused == "/branch/" else None, tags=["v1"])
    text = str(error.value)
    assert "did not accept the upload" in text
    assert there in text
    assert ("On the Hub are" in text) == bool(there)
    assert f"the export itself is in {folder}" in text
    assert TOKEN not in text


def test_the_token_is_sent_and_never_shown(hub, folder, monkeypatch):
    push(folder, "me/model", endpoint=hub.endpoint)
    assert hub.tokens == {f"Bearer {TOKEN}"}
    # A token with a line break in it, as copied from a file: the client's error shows the header.
    broken = f"{TOKEN}\n{TOKEN}"
    monkeypatch.setenv("HF_TOKEN", broken)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: broken)
    monkeypatch.setattr("huggingface_hub.utils._headers.get_token", lambda: broken, raising=False)
    with pytest.raises(ExportError) as error:
        push(folder, "me/model", endpoint=hub.endpoint)
    assert "secret" not in str(error.value)


def test_no_hub_is_one_line(folder, hub):
    endpoint = hub.endpoint
    hub.shutdown()
    hub.server_close()
    with pytest.raises(ExportError, match="did not accept the upload"):
        push(folder, "me/model", endpoint=endpoint)


@pytest.mark.parametrize(
    ("repository", "tags", "words"),
    [
        (None, ["v1"], "without push"),
        ("model", [], "Expected owner/name"),
        ("a/b/c", [], "Expected owner/name"),
        ("me/" + "x" * 200, [], "Expected owner/name"),
        ("me/model", ["v 1"], "Expected a name such as v1.0"),
        ("me/model", ["a..b"], "Expected a name such as v1.0"),
        ("me/model", ["-v"], "Expected a name such as v1.0"),
        ("me/model", ["x.lock"], "Expected a name such as v1.0"),
        ("me/model", ["refs/heads/main"], "Expected a name such as v1.0"),
        ("me/model", [""], "Expected a name such as v1.0"),
        ("me/model", [5], "found 5"),
        ("me/model", ["v1", "v1"], "named twice"),
    ],
)
def test_wrong_names_are_refused_before_anything_is_exported(repository, tags, words):
    with pytest.raises(ExportError) as refusal:
        check_push(repository, tags)
    assert words in str(refusal.value)


def test_usual_names_are_allowed():
    check_push(None, [])
    check_push("Qwen/Qwen2.5-0.5B", ["v1", "v1.0-rc1", "2026_11"])
