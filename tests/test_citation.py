"""CITATION.cff holds what version 1.2.0 of the format requires, and says the same as the package."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

import instil

ROOT = Path(__file__).resolve().parents[1]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
REQUIRED = {"cff-version", "message", "title", "authors"}
ALLOWED = REQUIRED | {
    "abstract", "commit", "contact", "date-released", "doi", "identifiers", "keywords", "license", "license-url",
    "preferred-citation", "references", "repository", "repository-artifact", "repository-code", "type", "url", "version",
}  # fmt: skip
PERSON = {
    "address", "affiliation", "alias", "city", "country", "email", "family-names", "fax", "given-names", "name-particle",
    "name-suffix", "orcid", "post-code", "region", "tel", "website",
}  # fmt: skip
ENTITY = {
    "address", "alias", "city", "country", "date-end", "date-start", "email", "fax", "location", "name", "orcid",
    "post-code", "region", "tel", "website",
}  # fmt: skip
"""Keys of the format's schema, https://github.com/citation-file-format/citation-file-format (schema.json, 1.2.0)."""


def test_the_keys_are_those_of_the_format():
    assert REQUIRED <= CITATION.keys() <= ALLOWED
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["type"] in ("software", "dataset")
    texts = [CITATION[key] for key in ("message", "title", "abstract", "license", "version")]
    assert all(isinstance(text, str) and text for text in texts)
    assert CITATION["authors"]
    for author in CITATION["authors"]:
        assert author.keys() <= (ENTITY if "name" in author else PERSON)
        assert author.keys() & {"name", "family-names", "given-names", "alias"}
    assert len(set(CITATION["keywords"])) == len(CITATION["keywords"]) > 0


def test_it_says_the_same_as_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert CITATION["version"] == instil.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", CITATION["version"])
    assert CITATION["license"] == project["license"]
    assert CITATION["keywords"] == project["keywords"]
