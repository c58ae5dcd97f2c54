from __future__ import annotations

import pytest
from tests.encoding.chats import CHATML, chat, chat_with


def test_generation_marks_are_held_against_what_is_trained() -> None:
    marked = CHATML.replace("{{ m.content }}<|im_end|>", "{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}")
    header = CHATML.replace("<|im_start|>{{ m.role }}", "{% generation %}<|im_start|>{{ m.role }}").replace(
        "<|im_end|>\n", "<|im_end|>{% endgeneration %}\n"
    )
    user = "{% if m.role == 'user' %}<|im_start|>user\n{{ m.content }}<|im_end|>\n{% else %}"
    marked, header = (
        each.replace("messages %}", "messages %}" + user).replace("{% endfor", "{% endif %}{% endfor")
        for each in (marked, header)
    )
    assert [str(finding) for finding in chat(marked).prove().findings if "marks" in finding.found] == []
    proof = chat(header).prove()
    assert proof.passed
    assert [finding.severity for finding in proof.findings if "marks" in finding.found] == ["note"]


@pytest.mark.parametrize("train_on", ["last", "all"])
def test_a_template_is_proved_whichever_turns_are_trained(train_on: str) -> None:
    assert chat_with(train_on=train_on).prove().passed
