"""One side of benchmarks/prepare.py, run in a process of its own: instil, a peer, or the bare work.

    python benchmarks/prepare_sides.py SIDE DATA TOKENIZER WORKERS

The last line of the output is one JSON object: ``rate`` (conversations per second, imports not counted), ``peak_mb``,
``tokens``. With INSTIL_CLOCK=cpu in the environment, seconds are CPU seconds of the process instead of wall seconds.

Why: nothing here imports instil at the top, because the side `trl` runs under the Python of TRL's own environment.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

REWRITING = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' and m.reasoning_content and "
    "loop.index0 > messages | map(attribute='role') | list | length - 2 %}"
    "{{ '<think>' + m.reasoning_content + '</think>' }}"
    "{% endif %}{{ m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


clock = time.process_time if os.environ.get("INSTIL_CLOCK") == "cpu" else time.perf_counter


def peak_mb() -> float:
    """Return the peak resident memory of this process, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1)


def side_instil(data: str, tokenizer: str, workers: int) -> dict[str, Any]:
    import numpy.ma  # noqa: F401

    from instil.encoding.plans import batch_encoder as batch  # noqa: F401
    from instil.preparation.prepare import prepare
    from instil.recipe import Recipe

    chat = load_chat(tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        settings = {"sources": data, "store": folder, "heldout_share": 0, "max_tokens": 4096}
        recipe = Recipe.from_mapping({"data": settings})
        ticks: list[tuple[int, float]] = []
        start = clock()
        prepared = prepare(recipe, chat, workers=workers, on_progress=lambda rows: ticks.append((rows, clock())))
        seconds = clock() - start
        rows = prepared.ledger.rows_in
        opening = clock()
        again = prepare(recipe, chat)
        assert again.reused
        opened = clock() - opening
    (first, began), (last, ended) = ticks[0], ticks[-1]
    steady = (last - first) / (ended - began) if last > first else rows / seconds
    return {
        "rows": rows,
        "rate": rows / seconds,
        "steady": steady,
        "peak_mb": peak_mb(),
        "opened": opened,
        "tokens": prepared.ledger.tokens,
    }


def side_tokenizers(data: str, tokenizer: str, workers: int) -> dict[str, Any]:
    from instil.data import read

    chat = load_chat(tokenizer)
    texts = [chat.render(conversation).text for conversation in read(data)]
    backend = chat.tokenizer.backend_tokenizer
    start = clock()
    encoded = backend.encode_batch(texts, add_special_tokens=False)
    seconds = clock() - start
    return {
        "rate": len(texts) / seconds,
        "peak_mb": peak_mb(),
        "tokens": sum(len(encoding.ids) for encoding in encoded),
    }


def side_trl(data: str, tokenizer: str, workers: int) -> dict[str, Any]:
    import datasets
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    class Timed(SFTTrainer):  # type: ignore[misc]
        seconds = 0.0

        def _prepare_dataset(self, *args: Any, **options: Any) -> Any:
            start = clock()
            dataset = super()._prepare_dataset(*args, **options)
            Timed.seconds += clock() - start
            return dataset

    processing = AutoTokenizer.from_pretrained(tokenizer)
    processing.pad_token = processing.pad_token or processing.eos_token
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(processing), **shape))
    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(output_dir=folder, use_cpu=True, report_to=[], max_length=4096, dataset_num_proc=None)
        start = clock()
        rows = datasets.load_dataset("json", data_files=data, split="train", cache_dir=folder)
        loading = clock() - start
        trainer = Timed(model, args=settings, train_dataset=rows, processing_class=processing)
        seconds = loading + Timed.seconds
        dataset = trainer.train_dataset
        return {"rate": len(rows) / seconds, "peak_mb": peak_mb(), "tokens": sum(map(len, dataset["input_ids"]))}


def side_long(data: str, tokenizer: str, workers: int) -> dict[str, Any]:
    """Compare encoding 80 turns, one by one and many at once, with the bare work.

    The bare work is one rendering and tokenization if the history is stable, else tokenizing the texts of all examples.
    """
    figures: dict[str, Any] = {}
    for name, template in (("stable", chatml()), ("rewriting", REWRITING)):
        sources = [eighty_turns(seed, reasoning=name == "rewriting") for seed in range(20)]
        chat = load_chat(tokenizer, template)
        produced = [chat.decode(example.token_ids) for source in sources for example in chat.encode(source)]
        messages = [chat.conversation(source).messages for source in sources]
        chats = [load_chat(tokenizer, template) for _ in range(6)]
        # The first call of a tokenizer loads what later calls reuse; it is not counted.
        for fresh in chats:
            list(fresh.encode_many([eighty_turns(999)[:4]]))
        # Each measurement gets a tokenizer of its own, so that none finds the plans of another.
        one = min(_seconds_to_encode(fresh, sources, one_by_one=True) for fresh in chats[:3])
        many = min(_seconds_to_encode(fresh, sources, one_by_one=False) for fresh in chats[3:])
        bare = min(_seconds_of_bare_work(chat, messages, produced if name == "rewriting" else None) for _ in range(3))
        figures[name] = {"one": one / 20, "many": many / 20, "theirs": bare / 20, "examples": len(produced) / 20}
    return figures


def _seconds_to_encode(chat: Any, sources: list[Any], *, one_by_one: bool) -> float:
    start = clock()
    if one_by_one:
        for source in sources:
            chat.encode(source)
    else:
        list(chat.encode_many(sources))
    return clock() - start


def _seconds_of_bare_work(chat: Any, messages: list[Any], produced: list[str] | None) -> float:
    backend = chat.tokenizer.backend_tokenizer
    start = clock()
    texts = [chat.template.render_text(turns) for turns in messages] if produced is None else produced
    for text in texts:
        backend.encode(text, add_special_tokens=False)
    return clock() - start


SIDES: dict[str, Callable[[str, str, int], dict[str, Any]]] = {
    "instil": side_instil,
    "tokenizers": side_tokenizers,
    "trl": side_trl,
    "long": side_long,
}


def load_chat(tokenizer: str, template: str | None = None) -> Any:
    """Load the tokenizer that prepare.py has written, with its own template or another."""
    from instil.encoding.chat_tokenizer import ChatTokenizer
    from instil.encoding.loading import load_tokenizer

    loaded = load_tokenizer(tokenizer)
    if template is not None:  # the templates of this file print ChatML's tokens
        missing = [mark for mark in ("<|im_start|>", "<|im_end|>") if mark not in loaded.get_vocab()]
        loaded.add_special_tokens({"additional_special_tokens": missing}) if missing else None
    return ChatTokenizer.from_tokenizer(loaded, template)


def chatml() -> str:
    return (
        "{% for message in messages %}"
        "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )


def eighty_turns(seed: int, *, reasoning: bool = False) -> list[dict[str, str]]:
    turns = []
    for turn in range(40):
        number = turn * 37 + seed
        turns.append(
            {"role": "user", "content": f"Question {seed}.{turn}: what comes after {number}, and why is that so?"}
        )
        answer = f"After {number} comes {number + 1}, because counting goes on by one each time."
        turns.append({"role": "assistant", "content": answer})
        if reasoning:
            turns[-1]["reasoning_content"] = f"Add one to {number}."
    return turns


if __name__ == "__main__":
    print(json.dumps(SIDES[sys.argv[1]](sys.argv[2], sys.argv[3], int(sys.argv[4]))))
