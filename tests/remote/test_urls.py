"""Claims about addresses: what is one, and what of it is never shown."""

from __future__ import annotations

import subprocess
import sys

import pytest

from instil.remote.urls import clean_url, full_url, is_hub_dataset, is_remote, is_url, without_secrets


@pytest.fixture(autouse=True)
def _no_addresses_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSTIL_FULL_URLS", "{}")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://me:pw@host/a.csv", "https://host/a.csv"),
        ("https://me@host/a.csv", "https://host/a.csv"),
        ("https://host/a.csv?X-Amz-Signature=ab&X-Amz-Expires=9", "https://host/a.csv"),
        ("https://host/a.csv?download=true", "https://host/a.csv?download=true"),
        ("https://host/a.csv?download=true&token=ab", "https://host/a.csv"),
        ("https://host/a.csv?abc", "https://host/a.csv"),
        ("https://host/a.csv#access_token=ab", "https://host/a.csv"),
        ("s3://key:pw@bucket/a.csv", "s3://bucket/a.csv"),
        ("s3://bucket/odd?name.csv", "s3://bucket/odd?name.csv"),
        ("s3://bucket/a.csv?versionId=3", "s3://bucket/a.csv?versionId=3"),
        ("az://box/a.csv?sv=1&sig=ab", "az://box/a.csv"),
        ("az://box@account.dfs.core.windows.net/a.csv", "az://box@account.dfs.core.windows.net/a.csv"),
        ("hf://datasets/owner/name@main/a.csv", "hf://datasets/owner/name@main/a.csv"),
        ("s3:/bucket/a.csv", "s3://bucket/a.csv"),
        ("data/a.csv", "data/a.csv"),
    ],
)
def test_what_may_be_secret_is_cut_from_an_address(address: str, shown: str) -> None:
    assert clean_url(address) == shown
    assert clean_url(shown) == shown


def test_the_whole_address_is_there_for_the_request_here_and_in_processes_started_here() -> None:
    whole = "https://me:pw@host/a.csv?sig=SIGNED"
    clean = clean_url(whole)
    assert full_url(clean) == whole
    assert full_url("https://host/b.csv") == "https://host/b.csv"
    program = f"from instil.remote.urls import full_url; print(full_url({clean!r}))"
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == whole


def test_texts_of_other_libraries_lose_the_secret_in_any_form() -> None:
    clean = clean_url("https://me:longpassword@host/a.csv?sig=SIGNED&exp=12345")
    text = (
        "GET me:longpassword host SIGNED, sig=SIGNED&exp=12345, https://me:longpassword@host/a.csv?sig=SIGNED&exp=12345"
    )
    shown = without_secrets(text, clean)
    assert "longpassword" not in shown
    assert "SIGNED" not in shown
    assert shown.endswith(clean)


def test_a_data_set_of_the_hub_is_no_file_behind_an_address() -> None:
    assert is_hub_dataset("hf://owner/name")
    assert is_hub_dataset("hf://datasets/owner/name")
    assert not is_remote("hf://datasets/owner/name")
    assert is_remote("hf://datasets/owner/name/data/train.parquet")
    for path in ("rows.jsonl", "/data/rows.jsonl", "C:/rows.jsonl", "ftp://host/a", "s3:", "s3://", "rows:5f2c", "-"):
        assert not is_url(path), path
