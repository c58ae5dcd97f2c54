"""The check that what was trained is what will be served: ids, stop tokens, answers, logits.

Every comparison is with the written files, loaded afresh by plain transformers, not with what is in memory. A
mismatch is an `ExportError` with the first difference, and nothing is left behind.

Why: rows in which a person typed control tokens are compared with `chat.prompt` only, and counted. There,
transformers' own ids are wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from instil.conversation import Conversation
from instil.data.messages import conversation_from_dict
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.errors import EncodingError, ExportError, TemplateError
from instil.generation.decoding import answering
from instil.generation.engine import Engine
from instil.generation.prompts import Prompt, prompts_of
from instil.generation.settings import SamplingSettings
from instil.screen import work
from instil.template.message_dicts import to_template_messages
from instil.units import counted

MERGE_BOUND = {torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.01}
"""Largest change of a logit by merging, as a share of the largest logit."""
NUM_ANSWERS = 8
ANSWER_TOKENS = 48
PROBES = (
    (("user", "What is 2 + 2?"), ("assistant", "4")),
    (("user", "Name a colour."), ("assistant", "Blue."), ("user", "Another?"), ("assistant", "Green.")),
    (("system", "Answer briefly."), ("user", "Hello!\n"), ("assistant", "Hi — 你好 🙂")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """The result of the check: what was compared and is equal.

    Attributes:
        prompts: Prompts whose ids are equal in training, in plain transformers on the export, and in `chat.prompt`.
        typed_control_tokens: Prompts with typed control tokens, compared with `chat.prompt` alone.
        refused: Rows that the template or the encoder refuses.
        stop_tokens: Stop tokens, equal in tokenizer, config and generation_config.
        answers: Greedy answers compared.
        answers_differ: How many of them differ, if the target's rounding allows it; 0 for an unrounded copy.
        logit_change: Largest change of a logit as a share of the largest one; None if weights were copied.
        notes: Lines for the user.
    """

    prompts: int
    typed_control_tokens: int
    refused: int
    stop_tokens: tuple[str, ...]
    answers: int = 0
    answers_differ: int = 0
    logit_change: float | None = None
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the result as lines for people."""
        lines = [
            f"{counted(self.prompts, 'prompt')}: ids equal in training, in plain transformers on the export, and in chat.prompt",
            f"stop tokens equal in tokenizer, config and generation_config: {' '.join(self.stop_tokens)}",
        ]
        if self.typed_control_tokens:
            lines.append(
                f"{counted(self.typed_control_tokens, 'prompt')} with typed control tokens: equal to chat.prompt"
            )
        if self.refused:
            lines.append(f"{counted(self.refused, 'row')} refused by the template or the encoder, not compared")
        if self.answers:
            lines.append(f"{self.answers - self.answers_differ} of {self.answers} greedy answers equal")
        if self.logit_change is not None:
            lines.append(f"logits changed by at most {self.logit_change:.2g} of the largest")
        return [*lines, *self.notes]


def probe_conversations() -> list[Conversation]:
    """Return the conversations to compare on if the user has none."""
    return [
        conversation_from_dict({"messages": [{"role": role, "content": text} for role, text in turns]})
        for turns in PROBES
    ]


@work("comparing ids with those of training")
def check_ids(chat: ChatTokenizer, folder: Path, conversations: Iterable[Conversation]) -> tuple[Parity, list[Prompt]]:
    """Compare the prompts' ids three ways.

    Returns:
        The result, and the prompts that were compared.

    Raises:
        ExportError: At the first difference.
    """
    from transformers import AutoTokenizer

    plain = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    again = ChatTokenizer.from_pretrained(folder, settings=chat.settings)
    compared: list[Prompt] = []
    typed = refused = 0
    for conversation in conversations:
        if conversation.plain:
            continue
        try:
            as_encoded = chat.conversation(conversation)
            examples = chat.encode(conversation, train_on="assistant")
            before = chat.report.escaped
            prompts = prompts_of(as_encoded, turns="every")
            ids = [chat.prompt(prompt.conversation) for prompt in prompts]
            has_typed = any(example.escaped for example in examples) or chat.report.escaped > before
        except (TemplateError, EncodingError):
            refused += 1
            continue
        for prompt, prompt_ids in zip(prompts, ids, strict=True):
            first_difference("chat.prompt on the export", again.prompt(prompt.conversation), prompt_ids, chat, prompt)
            if has_typed:  # transformers' own ids would be wrong
                typed += 1
                continue
            ours = _plain_ids(plain, chat, prompt)
            first_difference("plain transformers on the export", ours, prompt_ids, chat, prompt)
            if prompt.reference is not None and (prompt.reference.weight or 1) > 0:
                _check_trained(examples, prompt_ids, prompt)
            compared.append(prompt)
    if not compared and not typed:
        raise ExportError(
            "parity: no row could be compared. Expected rows that the template accepts. Name some with --data."
        )
    stops = check_stops(chat, folder)
    return Parity(prompts=len(compared), typed_control_tokens=typed, refused=refused, stop_tokens=stops), compared


def _plain_ids(tokenizer: Any, chat: ChatTokenizer, prompt: Prompt) -> list[int]:
    """Return the ids that plain transformers gives, with messages in the form that the template reads."""
    conversation = prompt.conversation
    messages = to_template_messages(conversation.messages, shape=chat.template.shape, traced=False)
    ids = tokenizer.apply_chat_template(
        messages,
        tools=[dict(tool) for tool in conversation.tools] or None,
        add_generation_prompt=True,
        return_dict=False,
        **dict(conversation.variables),
    )
    return list(ids)


def first_difference(
    what: str, ids: Sequence[int], trained_ids: Sequence[int], chat: ChatTokenizer, prompt: Prompt
) -> None:
    """Raise ExportError, with the first difference, if a prompt's ids are not those of training."""
    if list(ids) == list(trained_ids):
        return
    pairs = zip(ids, trained_ids, strict=False)
    at = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(ids), len(trained_ids)))
    start = max(0, at - 4)
    raise ExportError(
        f"parity: {prompt.place or 'probe'}, turn {prompt.turn}: {what} differs from training at token {at}: "
        f"{chat.decode(ids[start : at + 4])!r} against {chat.decode(trained_ids[start : at + 4])!r}. "
        "The export is refused. Check the template and its variables."
    )


def _check_trained(examples: Sequence[Any], prompt_ids: Sequence[int], prompt: Prompt) -> None:
    """Check that a training example begins with serving's prompt and trains the token after it."""
    length = len(prompt_ids)
    for example in examples:
        is_trained = len(example.weights) > length and example.weights[length] > 0
        if is_trained and list(example.token_ids[:length]) == list(prompt_ids):
            return
    raise ExportError(
        f"parity: {prompt.place or 'probe'}, turn {prompt.turn}: no training example begins with serving's prompt. "
        "The export is refused. Run `instil template prove`."
    )


def check_stops(chat: ChatTokenizer, folder: Path) -> tuple[str, ...]:
    """Compare the stop ids in tokenizer, config and generation_config, and return the stop tokens.

    Raises:
        ExportError: If they differ.
    """
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    stop_ids = set(chat.stop_ids)
    generation = _ids(GenerationConfig.from_pretrained(str(folder)).eos_token_id)
    config = _ids(AutoConfig.from_pretrained(str(folder)).get_text_config().eos_token_id)
    tokenizer = _ids(AutoTokenizer.from_pretrained(str(folder), local_files_only=True).eos_token_id)
    if generation != stop_ids:
        raise ExportError(
            f"parity: generation_config stops on {sorted(generation)}, training on {sorted(stop_ids)}. "
            "The export is refused."
        )
    for name, eos_ids in (("config", config), ("tokenizer", tokenizer)):
        if eos_ids and not eos_ids <= stop_ids:
            raise ExportError(
                f"parity: {name} has eos {sorted(eos_ids)}, which is not a stop token of training "
                f"({sorted(stop_ids)}). The export is refused."
            )
    return chat.stop_tokens


def _ids(value: int | Sequence[int] | None) -> set[int]:
    return set() if value is None else {value} if isinstance(value, int) else set(value)


def check_answers(parity: Parity, ours: Engine, exported: Engine, prompts: Sequence[Prompt], *, exact: bool) -> Parity:
    """Compare greedy answers of the run's model and of the exported one.

    Args:
        parity: The result so far.
        ours: The run's model.
        exported: The exported one, loaded from its folder.
        prompts: The prompts.
        exact: Whether a single difference refuses the export; otherwise differences are counted.

    Raises:
        ExportError: On a difference, with `exact`.
    """
    settings = SamplingSettings(max_new_tokens=ANSWER_TOKENS)
    engines = [by_own_forward(engine) for engine in (ours, exported)]
    conversations = [prompt.conversation for prompt in prompts[:NUM_ANSWERS]]
    # One by one, so that both sides do the same arithmetic.
    pairs = []
    with work("comparing answers", total=2 * len(conversations), unit="answers") as bar:
        for one in conversations:
            answers = []
            for engine in engines:
                answers += engine.answer([one], settings)
                bar.advance()
            pairs.append(tuple(answers))
    differ = [
        (prompt, a.text, b.text)
        for prompt, (a, b) in zip(prompts, pairs, strict=False)
        if a.generated.token_ids != b.generated.token_ids or a.generated.stop_id != b.generated.stop_id
    ]
    if differ and exact:
        prompt, ours_text, theirs = differ[0]
        raise ExportError(
            f"parity: {prompt.place or 'probe'}, turn {prompt.turn}: the exported model answers {theirs[:80]!r}, "
            f"the run's {ours_text[:80]!r}. The export is refused."
        )
    return replace(parity, answers=len(pairs), answers_differ=len(differ))


def by_own_forward(engine: Engine) -> Engine:
    """Return an engine that answers by its model's own forward, in the order of arithmetic that others have too.

    Why: in 16 bits plain steps round at other places, which decides between two tokens that are nearly as likely.
    """
    return Engine(engine.model, engine.tokenizer, chat=engine.chat, name=engine.name)


def logits_on(
    model: torch.nn.Module, prompts: Sequence[Sequence[int]], *, num_tokens: int | None = None
) -> list[torch.Tensor]:
    """Return the fp32 logits at each prompt's tokens.

    Only those of the first `num_tokens` ids are returned: rows beyond the tokenizer's belong to no token.
    """
    device = next(model.parameters()).device
    with torch.no_grad(), answering(model):
        return [
            model(torch.tensor([list(prompt)], device=device), use_cache=False).logits[0, :, :num_tokens].float().cpu()
            for prompt in prompts
        ]


def logit_change(before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]) -> float:
    """Return the largest change of a logit as a share of the largest logit."""
    return max(((a - b).abs().max() / a.abs().max().clamp(min=1e-6)).item() for a, b in zip(before, after, strict=True))


def check_merge(
    before: Sequence[torch.Tensor], after: Sequence[torch.Tensor], dtype: torch.dtype, *, remedy: str | None = None
) -> float:
    """Check that merging an adapter did not change the logits, and return the largest change.

    Args:
        before: Logits of the base with its adapter.
        after: Logits of the merged model.
        dtype: Type of the merged weights, which decides the bound.
        remedy: What the user can do; None for a merge that this export made.

    Raises:
        ExportError: If a logit changed by more than `MERGE_BOUND`.
    """
    change, bound = logit_change(before, after), MERGE_BOUND[dtype]
    if not change <= bound:
        raise ExportError(
            f"parity: merging the adapter changed a logit by {change:.2g} of the largest. The bound for {dtype} is "
            f"{bound}. The export is refused. {remedy or _merge_remedy(dtype)}"
        )
    return change


def _merge_remedy(dtype: torch.dtype) -> str:
    if dtype != torch.float32:
        return "Export with --dtype fp32."
    # Nothing is rounded in fp32, so the adapter cannot be merged into this base.
    return "The weights are fp32 already. Export the adapter without merging it: --as adapter."


def as_mapping(parity: Parity) -> Mapping[str, Any]:
    """Return the content of parity.json."""
    return asdict(parity)
