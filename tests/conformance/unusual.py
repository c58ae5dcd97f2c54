"""Templates that nobody published, each with one thing that real ones do and most tools do not expect."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Unusual:
    """A template, its control tokens, and whether its plain conversations are exact or refused."""

    source: str
    special: tuple[str, ...] = ("<|im_start|>", "<|im_end|>")
    bos: str = ""
    eos: str = "<|endoftext|>"
    added: tuple[str, ...] = ()
    expected: str = "exact"


_LOOP = "{% for m in messages %}"
_END = "{% endfor %}"
_CHATML = "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
_ASK = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

UNUSUAL: dict[str, Unusual] = {
    "no generation prompt": Unusual(_LOOP + _CHATML + _END),
    "eos depends on the role": Unusual(
        _LOOP + "<|{{ m.role }}|>\n{{ m.content }}{{ '<|eot|>' if m.role == 'assistant' else '<|end|>' }}\n" + _END
        + "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
        special=("<|user|>", "<|assistant|>", "<|system|>", "<|tool|>", "<|eot|>", "<|end|>"),
    ),
    "eos only after the last turn": Unusual(
        _LOOP + "{{ m.role|upper }}: {{ m.content }}{{ eos_token if loop.last and m.role == 'assistant' else '\n' }}" + _END
        + "{% if add_generation_prompt %}ASSISTANT: {% endif %}", special=(),
    ),
    "eos only between turns": Unusual(
        _LOOP + "{{ m.role }}: {{ m.content }}{% if m.role == 'assistant' and not loop.last %}{{ eos_token }}{% endif %}\n" + _END
        + "{% if add_generation_prompt %}assistant: {% endif %}", special=(),
    ),
    "bos at each exchange": Unusual(
        _LOOP + "{% if m.role == 'user' %}{{ bos_token }}[INST] {{ m.content }} [/INST]{% elif m.role == 'assistant' %}"
        " {{ m.content|trim }} {{ eos_token }}{% endif %}" + _END, special=("[INST]", "[/INST]"), bos="<s>", eos="</s>",
    ),
    "content as JSON": Unusual(
        _LOOP + '<|im_start|>{"role": "{{ m.role }}", "text": {{ m.content | tojson }}}<|im_end|>' + _END
        + '{% if add_generation_prompt %}<|im_start|>{"role": "assistant", "text": {% endif %}', expected="refused_or_exact",
    ),
    "white space stripped": Unusual(
        _LOOP + "<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n" + _END + _ASK
    ),
    "prints the day": Unusual(
        "<|im_start|>system\nToday is {{ strftime_now('%d %B %Y') }}.<|im_end|>\n" + _LOOP + _CHATML + _END + _ASK
    ),
    "default system text": Unusual(
        "{% if messages[0].role != 'system' %}<|im_start|>system\nYou help.<|im_end|>\n{% endif %}" + _LOOP + _CHATML + _END + _ASK
    ),
    "old reasoning dropped": Unusual(
        _LOOP + "<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}<think>\n{{ m.reasoning_content or '' }}"
        "\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n" + _END + _ASK, added=("<think>", "</think>"),
    ),
    "prompt opens a block": Unusual(
        _LOOP + "<|im_start|>{{ m.role }}\n{{ m.content.split('</think>')[-1].lstrip('\n') }}<|im_end|>\n" + _END
        + "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}", added=("<think>", "</think>"),
    ),
    "prompt opens a block of unknown end": Unusual(
        _LOOP + _CHATML + _END + "{% if add_generation_prompt %}<|im_start|>assistant\n<plan>\n{% endif %}", expected="refused",
    ),
    "prompt supplies an empty block": Unusual(
        _LOOP + _CHATML + _END + "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n\n</think>\n\n{% endif %}",
    ),
    "square tags": Unusual(
        _LOOP + "[{{ m.role|upper }}]{% if m.reasoning_content %}[THINK]{{ m.reasoning_content }}[/THINK]{% endif %}"
        "{{ m.content }}{{ eos_token if m.role == 'assistant' }}" + _END + "{% if add_generation_prompt %}[ASSISTANT][THINK]{% endif %}",
        special=("[THINK]", "[/THINK]"), eos="</s>",
    ),
    "next header is the stop token": Unusual(
        "[gMASK]" + _LOOP + "<|{{ m.role }}|>\n{{ m.content }}" + _END + "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
        special=("<|user|>", "<|assistant|>", "<|system|>", "<|observation|>"),
    ),
    "answer marked by what follows": Unusual(
        _LOOP + "{{ m.content }}\n-- {{ m.role }}\n\n" + _END, special=(),
    ),
    "users merged": Unusual(
        "{% set ns = namespace(last='') %}" + _LOOP + "{% if m.role == ns.last %}\n{{ m.content }}{% else %}{% if ns.last %}<|im_end|>\n"
        "{% endif %}<|im_start|>{{ m.role }}\n{{ m.content }}{% endif %}{% set ns.last = m.role %}" + _END
        + "<|im_end|>\n" + _ASK,
    ),
    "system joins the last question": Unusual(
        "{% set ns = namespace(rules='') %}" + _LOOP + "{% if m.role == 'system' %}{% set ns.rules = m.content ~ '\n' %}{% else %}"
        "<|im_start|>{{ m.role }}\n{{ ns.rules if loop.last }}{{ m.content }}<|im_end|>\n{% endif %}" + _END + _ASK,
    ),
    "alternation required": Unusual(
        _LOOP + "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('alternate!') }}{% endif %}" + _CHATML + _END + _ASK
    ),
    "eos after every rendering": Unusual(
        _LOOP + "<|{{ m.role }}|>\n{{ m.content }}<|end|>\n" + _END
        + "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}",
        special=("<|user|>", "<|assistant|>", "<|system|>", "<|end|>"),
    ),
    "space after the prompt only": Unusual(
        _LOOP + "{{ m.role }}: {{ m.content }}{{ eos_token if m.role == 'assistant' }}\n" + _END
        + "{% if add_generation_prompt %}assistant:{% endif %}", special=(), eos="</s>",
    ),
    "generation marked": Unusual(
        _LOOP + "<|im_start|>{{ m.role }}\n{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}\n" + _END + _ASK
    ),
    "the day before the header, in the prompt only": Unusual(
        _LOOP + _CHATML + _END + "{% if add_generation_prompt %}Today is {{ strftime_now('%d %B %Y') }}.\n<|im_start|>assistant\n{% endif %}"
    ),
    "rules before the header, in the prompt only": Unusual(
        _LOOP + "{% if m.role != 'system' %}" + _CHATML + "{% endif %}" + _END + "{% if add_generation_prompt %}{% for m in messages if m.role"
        " == 'system' %}" + _CHATML + _END + "<|im_start|>assistant\n{% endif %}"
    ),
    "words behind the header, in the prompt only": Unusual(
        _LOOP + _CHATML + _END + "{% if add_generation_prompt %}<|im_start|>assistant\nSure! {% endif %}", expected="refused"
    ),
    "header behind a question only": Unusual(
        "{% set ns = namespace(last='') %}" + _LOOP + "{% if m.role == 'assistant' %}{{ '<|im_start|>assistant\n' if ns.last == 'user' }}"
        "{{ m.content }}<|im_end|>\n{% else %}" + _CHATML + "{% endif %}{% set ns.last = m.role %}" + _END + _ASK
    ),
    "header behind a question only, prompt opens a block": Unusual(
        "{% set ns = namespace(last='') %}" + _LOOP + "{% if m.role == 'assistant' %}{{ '<|im_start|>assistant\n' if ns.last == 'user' }}"
        "{{ m.content.split('</think>')[-1] }}<|im_end|>\n{% else %}" + _CHATML + "{% endif %}{% set ns.last = m.role %}" + _END
        + "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}", added=("<think>", "</think>"),
    ),
    "answers in a row joined": Unusual(
        "{% set ns = namespace(last='') %}" + _LOOP + "{% if m.role == 'assistant' and ns.last == m.role %}\n{{ m.content }}{% else %}"
        "{{ '<|im_end|>\n' if ns.last }}<|im_start|>{{ m.role }}\n{{ m.content }}{% endif %}{% set ns.last = m.role %}" + _END
        + "<|im_end|>\n" + _ASK
    ),
    "answer in a macro, lower case roles by slice": Unusual(
        "{% macro say(m) %}<|im_start|>{{ m['role'][:1] | upper }}{{ m['role'][1:] }}\n{{ m['content'] }}{{ '<|im_end|>' }}{% endmacro %}"
        + _LOOP + "{{ say(m) }}\n" + _END + "{% if add_generation_prompt %}{{ '<|im_start|>Assistant\n' }}{% endif %}"
    ),
}  # fmt: skip
