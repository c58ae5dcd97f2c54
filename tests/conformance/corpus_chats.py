"""The chat tokenizers of the corpus of published templates, on small tokenizers of four families in turns."""

from __future__ import annotations

import json
from functools import cache

from tests.conformance.tokenizers_made import make_tokenizer
from tests.corpus import corpus_path

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.turns.reasoning_block import TAG


@cache
def corpus_chats(*, every: int) -> list[tuple[str, ChatTokenizer]]:
    """Make the chat tokenizers of every so many published templates, by the templates' files."""
    folder = corpus_path()
    assert folder is not None
    entries = json.loads((folder / "templates" / "index.json").read_text())
    chosen = [entry for entry in entries if entry["kind"] == "published" and entry["renders"].get("basic") == "ok"][
        ::every
    ]
    made = []
    for number, entry in enumerate(chosen):
        source = (folder / "templates" / entry["file"]).read_text(encoding="utf-8")
        family = ("byte_level", "byte_level_nfc", "metaspace", "prepend")[number % 4]
        family = (
            "byte_level" if "▁" in source + str(entry["eos_token"]) else family
        )  # SentencePiece's decoders write it as a space
        marks = tuple(sorted(_marks(source)))
        tokenizer = make_tokenizer(
            family, template=source, special=marks, bos=entry["bos_token"] or "", eos=entry["eos_token"] or "</s>"
        )
        made.append((entry["file"], ChatTokenizer.from_tokenizer(tokenizer)))
    return made


def _marks(source: str) -> set[str]:
    return {tag for tag in TAG.findall(source) if "|" in tag or "｜" in tag or "_of_" in tag}
