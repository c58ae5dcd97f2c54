"""The template in Ollama's language, for the named templates."""

from __future__ import annotations

from tests.tiny_chat import tiny_tokenizer

from instil.conversation import Conversation, Message
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.errors import ExportError, InstilError
from instil.exporting.ollama import make_modelfile
from instil.template.library import named_templates

CHATS = [
    Conversation((Message("user", "Hi"),)),
    Conversation((Message("user", "Hi"), Message("assistant", "Yes?"), Message("user", "Bye"))),
]
SYSTEM = Conversation((Message("system", "Be kind."), Message("user", "Hi")))


def test_named_templates_are_said_exactly_or_refused_by_name():
    said, refused = [], []
    for name in named_templates():
        chat = ChatTokenizer.from_tokenizer(tiny_tokenizer(template=False), name)
        try:
            _, compared = make_modelfile(chat, "./model.gguf", [*CHATS, SYSTEM])
            assert compared >= 2
            said.append(name)
        except ExportError as error:
            refused.append((name, str(error)))
        except InstilError:
            continue
    assert {"chatml", "llama-3", "zephyr"} <= set(said), (said, refused)
    assert all("turns" in reason for _, reason in refused)
