"""The options that the benchmarks share: rows, tokenizer, chat template, lists of words, counts.

Rows and tokenizer are chosen in one place, `inputs_of`. In this order:

1. what `--data`, `--model` and `--template` name;
2. the corpus of the tests, where it is ($INSTIL_CORPUS, else ../shared/corpus beside the checkout): GSM8K, and the
   tokenizer of SmolLM2-135M-Instruct;
3. the demo's own rows and tokenizer, which come with the package.

Why: a clone has no corpus, and every benchmark has to run in it. Figures of other rows differ, so the choice is printed
and stands under `inputs` in the JSON.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

ROWS_OF_CORPUS = Path("datasets", "gsm8k_train.jsonl")
TOKENIZER_OF_CORPUS = Path("tokenizers", "smollm2-instruct")
CHOICE = "default: the corpus's {what}, where there is a corpus; else the demo's"


@dataclass(frozen=True)
class Inputs:
    """The rows, tokenizer and template of a benchmark.

    Attributes:
        data: What the rows are, for people.
        sources: The rows, as in a recipe's `data.sources`; empty for rows that the benchmark makes itself.
        model: What the tokenizer is, for people; None where a benchmark needs none.
        tokenizer: Folder of the tokenizer, or None.
        template: Name or file of the chat template; None for the model's own.
    """

    data: str
    sources: tuple[dict[str, Any], ...]
    model: str | None = None
    tokenizer: Path | None = None
    template: str | None = None

    def record(self) -> dict[str, str | None]:
        """Return the inputs for the JSON of a benchmark."""
        return {"data": self.data, "model": self.model, "template": self.template}

    def conversations(self) -> Iterator[Any]:
        """Yield the conversations.

        Raises:
            SystemExit: If a row cannot be read, with one line.
        """
        from instil import InstilError, read

        try:
            for source in self.sources:
                yield from read(source["path"], subset=source.get("subset"))
        except InstilError as error:
            raise SystemExit(str(error)) from None

    def pairs(self, count: int, *, at_least: int = 1) -> list[tuple[str, str]]:
        """Return up to `count` questions with their answers: the first exchange of each conversation that has one.

        Raises:
            SystemExit: If there are fewer than `at_least`, with one line.
        """
        pairs = list(islice(filter(None, map(first_exchange, self.conversations())), count))
        if len(pairs) < at_least:
            raise SystemExit(
                f"{self.data}: {len(pairs)} conversations with a question and an answer. Expected at least {at_least}. "
                "Name more data with --data."
            )
        return pairs

    def write_tokenizer(self, folder: Path) -> Path:
        """Write the tokenizer with its chat template and that template's tokens, as a run would set it up."""
        from instil.encoding.settings import EncodingSettings
        from instil.encoding.tokenizer_setup import set_up_tokenizer
        from instil.model.folder.location import locate_tokenizer

        assert self.tokenizer is not None
        setup = set_up_tokenizer(locate_tokenizer(self.tokenizer), self.template, settings=EncodingSettings())
        setup.tokenizer.save_pretrained(str(folder))
        return folder


def first_exchange(conversation: Any) -> tuple[str, str] | None:
    """Return the first question of a conversation and the answer behind it, or None where they are no plain text."""
    turns = [message for message in conversation.messages if message.role != "system"]
    if [turn.role for turn in turns[:2]] != ["user", "assistant"]:
        return None
    question, answer = (turn.content for turn in turns[:2])
    return (question, answer) if isinstance(question, str) and isinstance(answer, str) and answer else None


def as_rows(pairs: Iterable[Sequence[str]]) -> Iterator[dict[str, Any]]:
    """Yield questions and answers as prompt and completion, which instil and its peers read alike."""
    for question, answer in pairs:
        yield {
            "prompt": [{"role": "user", "content": question}],
            "completion": [{"role": "assistant", "content": answer}],
        }


def add_data_option(parser: argparse.ArgumentParser, *spellings: str, default: str | None = None) -> None:
    """Add `--data` and `--subset`.

    Args:
        parser: The parser of a benchmark.
        spellings: Other names of the option.
        default: What is taken without it, for people. None: the order of this module.
    """
    chosen = f"default: {default}" if default else CHOICE.format(what="GSM8K")
    parser.add_argument(
        "--data",
        *spellings,
        metavar="FILE | owner/dataset",
        help=f"rows: any source that `instil train` takes; {chosen}",
    )
    parser.add_argument("--subset", help="configuration of a Hub data set (main, for openai/gsm8k)")


def add_model_options(parser: argparse.ArgumentParser, *, template: str | None, what: str) -> None:
    """Add `--model` (also spelled `--tokenizer`) and `--template`.

    Args:
        parser: The parser of a benchmark.
        template: The default template; None for the model's own, or ChatML where it has none.
        what: What the tokenizer is for.
    """
    chosen = CHOICE.format(what="SmolLM2 tokenizer")
    parser.add_argument(
        "--model", "--tokenizer", metavar="FOLDER | owner/name | demo", help=f"whose tokenizer {what}; {chosen}"
    )
    own = "the model's own, or chatml where it has none"
    parser.add_argument(
        "--template", default=template, help=f"name or file of the chat template; default: {template or own}"
    )


def inputs_of(args: argparse.Namespace, scratch: Path, *, own_rows: str | None = None) -> Inputs:
    """Choose rows and tokenizer, and print the choice.

    Args:
        args: Parsed options.
        scratch: Folder for the demo's rows, if they are chosen.
        own_rows: What the benchmark's own rows are, for people; it takes them unless `--data` names others.

    Raises:
        SystemExit: If what was named cannot be read, with one line.
    """
    from instil import InstilError

    try:
        data, sources = _rows(args, scratch, own_rows=own_rows)
        model, tokenizer = _tokenizer(args, corpus_folder()) if hasattr(args, "model") else (None, None)
    except InstilError as error:
        raise SystemExit(str(error)) from None
    inputs = Inputs(data, sources, model, tokenizer, getattr(args, "template", None))
    print(f"rows: {data}" + (f"; tokenizer: {model}" if model else ""), file=sys.stderr, flush=True)
    return inputs


def _rows(args: argparse.Namespace, scratch: Path, *, own_rows: str | None) -> tuple[str, tuple[dict[str, Any], ...]]:
    from instil import read

    if args.data:
        source = {"path": args.data} | ({"subset": args.subset} if args.subset else {})
        next(read(args.data, subset=args.subset), None)  # a name that cannot be read ends the benchmark at its start
        return args.data, (source,)
    if args.subset:
        raise SystemExit(
            f"--subset {args.subset}: there is no --data. Expected a Hub data set. Add --data owner/dataset."
        )
    if own_rows is not None:
        return own_rows, ()
    corpus = corpus_folder()
    if corpus is not None and (corpus / ROWS_OF_CORPUS).exists():
        return f"GSM8K of the corpus ({corpus / ROWS_OF_CORPUS})", ({"path": str(corpus / ROWS_OF_CORPUS)},)
    from instil.demo.instructions import write_instructions

    files = write_instructions(scratch / "demo-rows")
    return "the demo's own (name others with --data)", tuple({"path": str(path)} for path in files)


def _tokenizer(args: argparse.Namespace, corpus: Path | None) -> tuple[str, Path]:
    from instil.model.folder.location import locate_tokenizer

    if args.model:
        return args.model, locate_tokenizer(args.model).tokenizer_folder
    if corpus is not None and (corpus / TOKENIZER_OF_CORPUS).exists():
        return f"SmolLM2's of the corpus ({corpus / TOKENIZER_OF_CORPUS})", corpus / TOKENIZER_OF_CORPUS
    return "the demo's (name another with --model)", locate_tokenizer("demo").tokenizer_folder


def corpus_folder() -> Path | None:
    """Return the folder of the tests' corpus, or None where there is none."""
    named = os.environ.get("INSTIL_CORPUS")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "corpus"
    return folder if folder.is_dir() else None


def words_of(*choices: str) -> Callable[[str], list[str]]:
    """Return the type of an option that takes one or more of these words, with commas between them.

    Example:
        >>> words_of("fp32", "bf16")("bf16,fp32")
        ['bf16', 'fp32']
    """

    def words(text: str) -> list[str]:
        parts = [part.strip() for part in text.split(",")]
        for part in parts:
            if part not in choices:
                raise argparse.ArgumentTypeError(f"{part!r} is unknown. Expected {', '.join(choices)}.")
        return parts

    return words


def counts(text: str) -> list[int]:
    """Return counts from text with commas between them, each at least 1: the type of an option."""
    return [count(part) for part in text.split(",")]


def count(text: str) -> int:
    """Return a count of at least 1 from text: the type of an option."""
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no count. Expected a whole number, at least 1.")
    return int(text)
