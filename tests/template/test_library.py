"""Named templates print exactly what the published templates print."""

from __future__ import annotations

import random
import re

import pytest
from tests.corpus import corpus_path, needs_corpus

from instil.conversation import Message, ToolCall
from instil.errors import TemplateError
from instil.template.chat_template import ChatTemplate
from instil.template.library import NAMED_TEMPLATES, named_templates, template_source

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
ASKED = ("chatml", "llama-2", "llama-3", "llama-3.1", "mistral", "gemma", "phi-3", "zephyr", "vicuna", "alpaca")
WORDS = [
    "one",
    "  two ",
    "thr\nee",
    "四 🌈",
    "<b>&",
    "\n",
    "x\n\n",
    "{{ y }}",
    "'\"\\",
    "[/INST]",
    "### Response:",
    "0",
]
TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "Weather \"now\"", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}},
    {"type": "function", "function": {"name": "time", "description": "Time", "parameters": {"type": "object", "properties": {}}}},
]  # fmt: skip
PUBLISHED = [
    ("chatml", "teknium__OpenHermes-2.5-Mistral-7B--lcpptest.jinja", {"system"}),
    ("chatml", "Qwen__Qwen1.5-4B-Chat.jinja", {"always system"}),
    ("chatml", "Snowflake__snowflake-arctic-instruct.jinja", {"system", "any order"}),
    ("llama-2", "meta-llama__Llama-2-70b-chat-hf.jinja", {"system"}),
    ("llama-3", "meta-llama__Meta-Llama-3-8B-Instruct--trl-training.jinja", {"system", "any order"}),
    ("llama-3", "unsloth_llama3.jinja", {"system"}),
    ("llama-3.1", "meta-llama__Llama-3.1-8B-Instruct.jinja", {"system", "any order", "tools"}),
    ("mistral", "mistralai__Mistral-7B-Instruct-v0.3.jinja", {"system", "tools"}),
    ("gemma", "google__gemma-2-2b-it.jinja", set()),
    ("gemma", "google__gemma-3-1b-it.jinja", {"system"}),
    ("phi-3", "microsoft__Phi-3-mini-instruct--trl-training.jinja", {"system", "any order"}),
    ("zephyr", "stabilityai__stablelm-zephyr-3b.jinja", {"system", "any order"}),
    ("zephyr", "unsloth_zephyr.jinja", {"system"}),
    ("vicuna", "unsloth_vicuna.jinja", {"always system"}),
    ("alpaca", "unsloth_alpaca.jinja", {"always system"}),
]


def conversation(random: random.Random, takes: set[str]) -> list[Message]:
    """Make up turns of the kinds that a published template takes."""
    text = lambda: " ".join(random.choices(WORDS, k=random.randint(1, 3)))  # noqa: E731
    messages = (
        [Message("system", text())] if "always system" in takes or ("system" in takes and random.random() < 0.5) else []
    )
    if "any order" in takes:
        return messages + [Message(random.choice(["user", "assistant"]), text()) for _ in range(random.randint(1, 5))]
    for _ in range(random.randint(1, 3)):
        messages.append(Message("user", text()))
        if "tools" in takes and random.random() < 0.4:
            call = ToolCall(
                random.choice(["weather", "time"]), {"city": text(), "n": random.choice([1, None, 2.5])}, "abc456789"
            )
            messages.append(Message("assistant", random.choice([None, ""]), tool_calls=(call,)))
            messages.append(Message("tool", text(), tool_call_id="abc456789", name=call.name))
        messages.append(Message("assistant", text()))
    return messages[: len(messages) - (random.random() < 0.3)]


@pytest.mark.slow
@needs_corpus(len(PUBLISHED) * 300)
@pytest.mark.parametrize(
    ("name", "file", "takes"), PUBLISHED, ids=[f"{name}-{file[:40]}" for name, file, _ in PUBLISHED]
)
def test_named_template_prints_what_the_published_one_prints(name, file, takes):
    source = (corpus_path() / "templates" / file).read_text(encoding="utf-8")
    theirs, ours = (
        ChatTemplate(source, special_tokens=TOKENS),
        ChatTemplate(template_source(name), special_tokens=TOKENS),
    )
    rng = random.Random(f"{name} {file}")
    compared = refused = 0
    for _ in range(300):
        messages = conversation(rng, takes)
        tools = TOOLS[: rng.randint(0, 2)] if "tools" in takes else ()
        prompt = rng.random() < 0.5
        try:
            expected = theirs.render_text(messages, tools=tools, add_generation_prompt=prompt)
        except TemplateError:
            refused += 1
            with pytest.raises(TemplateError, match="chat template"):
                ours.render_text(messages, tools=tools, add_generation_prompt=prompt)
            continue
        assert ours.render_text(messages, tools=tools, add_generation_prompt=prompt) == expected
        compared += 1
    assert compared > 200, refused


@needs_corpus(1)
def test_chatml_writes_tools_as_qwen_does_given_its_system_text():
    source = (corpus_path() / "templates" / "Qwen__Qwen2.5-7B-Instruct.jinja").read_text(encoding="utf-8")
    call = ToolCall("weather", {"city": "Hà Nội"}, "abc456789")
    messages = [
        Message("system", "RULES"), Message("user", "q"), Message("assistant", "", tool_calls=(call, call)),
        Message("tool", "sunny"), Message("tool", "rain"), Message("assistant", "done"),
    ]  # fmt: skip
    theirs, ours = ChatTemplate(source), ChatTemplate(template_source("chatml"))
    for length in (2, 3, 5, 6):
        for prompt in (False, True):
            given = {"tools": TOOLS, "add_generation_prompt": prompt}
            assert ours.render(messages[:length], **given).text == theirs.render(messages[:length], **given).text


def test_the_templates_asked_for_are_there():
    assert set(ASKED) <= set(named_templates())


@pytest.mark.parametrize("name", ASKED)
def test_template_locates_every_message_and_prints_its_stop_token_after_answers(name):
    named = NAMED_TEMPLATES[name]
    messages = [
        Message("system", "RULES"),
        Message("user", "QUESTION"),
        Message("assistant", "ANSWER"),
        Message("user", "MORE"),
    ]
    template = ChatTemplate(named.source, special_tokens=TOKENS)
    rendering = template.render(messages)
    for index, message in enumerate(messages):
        assert [rendering.text[a:b] for a, b in rendering.spans(index)] == [message.content]
    stop = named.stop_token or TOKENS["eos_token"]
    assert re.search("ANSWER ?" + re.escape(stop), rendering.text)
    assert rendering.text.startswith("<s>") == named.prints_bos
    prompt = template.render(messages, add_generation_prompt=True)
    assert prompt.text.startswith(rendering.text.removesuffix(TOKENS["eos_token"]))
    assert all(
        token in named.source or token.strip("<|>") in named.source or "role" in named.source
        for token in named.control_tokens
    )


def test_unknown_name_offers_the_nearest():
    with pytest.raises(TemplateError, match=r"did you mean 'chatml'\?"):
        template_source("chatm")


def test_chatml_keeps_reasoning_and_calls_in_the_history():
    call = ToolCall("weather", {"city": "Hà Nội"})
    messages = [
        Message("user", "q"),
        Message("assistant", None, reasoning="because", tool_calls=(call,)),
        Message("tool", "sunny"),
    ]
    template = ChatTemplate(template_source("chatml"))
    assert template.shows_reasoning
    assert template.render(messages).text == (
        "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n<think>\nbecause\n</think>\n\n<tool_call>\n"
        '{"name": "weather", "arguments": {"city": "Hà Nội"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\nsunny\n</tool_response><|im_end|>\n"
    )
