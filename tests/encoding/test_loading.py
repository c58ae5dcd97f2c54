from __future__ import annotations

import pytest
from tests.conformance.tokenizers_made import make_tokenizer
from tests.encoding.chats import CHATML, chat, two_turns

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.errors import ModelError, TemplateError


def test_a_missing_tokenizer_and_a_missing_template_are_named(tmp_path) -> None:  # type: ignore[no-untyped-def]
    from instil.encoding.chat_tokenizer import ChatTokenizer

    with pytest.raises(ModelError, match=f"{tmp_path}: a model folder without a tokenizer; expected tokenizer.json"):
        ChatTokenizer.from_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"no/such/folder: no tokenizer could be loaded \(.+\); expected a folder or"):
        ChatTokenizer.from_pretrained("no/such/folder")
    bare = chat().tokenizer.__class__(tokenizer_object=chat().tokenizer.backend_tokenizer, eos_token="<|endoftext|>")
    with pytest.raises(TemplateError, match="no chat template"):
        ChatTokenizer.from_tokenizer(bare)


def test_named_templates_without_a_default_are_told_by_their_names() -> None:
    tokenizer = make_tokenizer("byte_level", template=CHATML)
    tokenizer.chat_template = {"tool_use": CHATML, "rag": CHATML}
    with pytest.raises(TemplateError, match=r"are named 'tool_use', 'rag', and none is 'default'; .*model.template"):
        ChatTokenizer.from_tokenizer(tokenizer)


def test_the_template_for_tools_takes_over_where_tools_are_given_as_in_transformers(tmp_path) -> None:  # type: ignore[no-untyped-def]
    from tests.conformance.cases import CALLING, TOOL
    from tests.conformance.oracle import judge
    from tests.conformance.tokenizers_made import make_tokenizer

    from instil.encoding.chat_tokenizer import ChatTokenizer

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
