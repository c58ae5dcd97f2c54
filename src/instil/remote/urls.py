"""Tell the address of a remote file from a path, and keep what is secret out of it.

A URL may carry a user with a password, or a signed query. Everything that is written or printed uses `clean_url`, which
leaves them out. `full_url` returns the whole address, for the request alone.

Why: the whole addresses stay in this process's environment, where access keys stay too. So processes that this one
starts can read the file, and no recipe, manifest or message holds the secret.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import PurePosixPath
from urllib.parse import parse_qsl, urlsplit, urlunsplit

EXPECTED = "s3://, gs://, az://, hf:// or https://"
"""The kinds of addresses that can be read, for errors."""
_URL = re.compile(r"(s3|gs|az|hf|https?):/{1,2}(?=[^/])")
_HUB_DATASET = re.compile(r"hf://(?:datasets/)?[^/]+/[^/]+/?")
_HARMLESS = frozenset({"download", "raw", "dl", "ref", "revision", "version", "versionid", "format", "alt", "export"})
"""Names in the query of a web address that stay. Any other may be a token or a signature."""
_SECRET = re.compile(r"sig|token|secret|password|credential|key|auth", re.IGNORECASE)
_FULL = "INSTIL_FULL_URLS"


def is_url(text: str) -> bool:
    """Return whether a text is the address of something in a bucket, on the Hub or on a web server.

    Example:
        >>> is_url("s3://bucket/rows.jsonl"), is_url("rows.jsonl"), is_url("C:/rows.jsonl")
        (True, False, False)
    """
    return _URL.match(text) is not None


def is_hub_dataset(text: str) -> bool:
    """Return whether an address names a whole data set of the Hub rather than a file in one.

    Example:
        >>> is_hub_dataset("hf://openai/gsm8k"), is_hub_dataset("hf://datasets/openai/gsm8k/main/train.parquet")
        (True, False)
    """
    return _HUB_DATASET.fullmatch(text) is not None


def is_remote(text: str) -> bool:
    """Return whether a source is read through `storage`: an address, but no data set of the Hub."""
    return is_url(text) and not is_hub_dataset(clean_url(text))


def is_bucket(text: str) -> bool:
    """Return whether a text is the address of something in a bucket, which can be written to.

    Example:
        >>> is_bucket("s3://bucket/runs"), is_bucket("https://example.com/runs")
        (True, False)
    """
    return is_url(text) and scheme_of(text) in ("s3", "gs", "az")


def scheme_of(url: str) -> str:
    """Return what a URL begins with, such as ``s3``."""
    return url.partition(":")[0]


def clean_url(text: str) -> str:
    """Return a URL without user, password and signed query; any other text as it is.

    A slash that `pathlib` took away is put back. The whole address is kept for `full_url`.

    Example:
        >>> clean_url("https://me:secret@example.com/rows.jsonl?X-Amz-Signature=ab")
        'https://example.com/rows.jsonl'
        >>> clean_url("https://example.com/rows.jsonl?download=true"), clean_url("s3:/bucket/rows.jsonl")
        ('https://example.com/rows.jsonl?download=true', 's3://bucket/rows.jsonl')
    """
    match = _URL.match(text)
    if match is None:
        return text
    whole = f"{match[1]}://{text[match.end() :]}"
    clean = _clean_web(whole) if match[1].startswith("http") else _clean_bucket(whole)
    if clean != whole:
        os.environ[_FULL] = json.dumps(_kept() | {clean: whole})
    return clean


def _clean_web(url: str) -> str:
    parts = urlsplit(url)
    names = {name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    # A query without names, such as ?abc, may be a token too.
    is_harmless = bool(names) and names <= _HARMLESS
    return urlunsplit(
        (parts.scheme, parts.netloc.rpartition("@")[2], parts.path, parts.query if is_harmless else "", "")
    )


def _clean_bucket(url: str) -> str:
    """Return the address of an object without user and password, and without a query that has a secret in it."""
    scheme, _, rest = url.partition("://")
    container, slash, key = rest.partition("/")
    user, at, host = container.rpartition("@")
    # Azure's container@account is no secret; what has a colon is a user with a password.
    container = host if ":" in user else f"{user}{at}{host}"
    path, mark, query = key.partition("?")
    names = [name for name, _ in parse_qsl(query, keep_blank_values=True)]
    key = path if any(map(_SECRET.search, names)) else f"{path}{mark}{query}"
    return f"{scheme}://{container}{slash}{key}"


def _kept() -> dict[str, str]:
    kept: dict[str, str] = json.loads(os.environ.get(_FULL, "{}"))
    return kept


def full_url(clean: str) -> str:
    """Return the whole address that `clean_url` shortened in this process or one that started it, for requests."""
    return _kept().get(clean, clean)


def without_secrets(text: str, clean: str) -> str:
    """Return another library's text without the parts of an address that `clean_url` leaves out.

    Example:
        >>> url = clean_url("https://me:secret@example.com/rows.jsonl?sig=ab")
        >>> without_secrets("401 for https://me:secret@example.com/rows.jsonl?sig=ab", url)
        '401 for https://example.com/rows.jsonl'
    """
    whole = full_url(clean)
    if whole == clean:
        return text
    parts = urlsplit(whole)
    user = parts.netloc.rpartition("@")[0]
    text = text.replace(whole, clean)
    for secret in (user, parts.query, *user.split(":"), *(value for _, value in parse_qsl(parts.query))):
        if len(secret) > 2:
            text = text.replace(secret, "…")
    return text


def name_of_url(url: str) -> str:
    """Return the name of the file that a URL names, without a query.

    Example:
        >>> name_of_url("https://example.com/data/rows.jsonl.gz?download=true")
        'rows.jsonl.gz'
    """
    path = urlsplit(url).path if url.startswith("http") else url.partition("://")[2]
    return PurePosixPath(path).name


def joined_url(url: str, name: str) -> str:
    """Return the URL of a name below another one."""
    return f"{url.rstrip('/')}/{name}"
