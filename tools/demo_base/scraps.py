"""The part of the pre-training text that states no facts: sums, short stories and code.

The instruction data asks for a sum or a line of Python, so the base model has to have read some. Stories keep it a
model of text instead of a list of facts.
"""

from __future__ import annotations

import random

_NAMES = (
    "Anna",
    "Ben",
    "Clara",
    "David",
    "Emma",
    "Felix",
    "Greta",
    "Hugo",
    "Ida",
    "Jonas",
    "Lena",
    "Max",
    "Nora",
    "Paul",
)
_PLACES = (
    "the market",
    "the old mill",
    "the harbour",
    "the library",
    "the hill",
    "the station",
    "the school",
    "the bakery",
)
_THINGS = (
    "a red ball",
    "a small key",
    "a letter",
    "a basket",
    "an old map",
    "a lantern",
    "a wooden box",
    "a silver coin",
)
_WEATHER = (
    "It was raining.",
    "The sun was shining.",
    "The wind was cold.",
    "Snow lay on the roofs.",
    "The evening was warm.",
)
_ENDS = (
    "In the end everyone laughed and went home.",
    "That night they slept well.",
    "Nobody forgot that day.",
    "And so they became friends.",
    "After that they came back every week.",
)


def sums(rng: random.Random) -> str:
    """Write a few sums, in signs or in words.

    Example:
        >>> sums(random.Random(3)).count("=") + sums(random.Random(3)).count(" is ") > 0
        True
    """
    return rng.choice(("\n", " ", "; ")).join(_sum(rng) for _ in range(rng.randint(3, 8)))


def _sum(rng: random.Random) -> str:
    a, b = rng.randint(0, 20), rng.randint(0, 20)
    if rng.random() < 0.35:
        a, b = rng.randint(1, 10), rng.randint(1, 10)
        sign, word, result = "*", "times", a * b
    elif rng.random() < 0.65:
        sign, word, result = "+", "plus", a + b
    else:
        a, b = max(a, b), min(a, b)
        sign, word, result = "-", "minus", a - b
    style = rng.randrange(6)
    if style < 2:
        return f"{a} {sign} {b} = {result}"
    if style == 4:
        return f"{a} {word} {b}: {result}"
    if style == 5:
        return f"{a} {sign} {b}, that is\n{result}"
    return f"{a} {word} {b} is {result}." if style == 2 else f"The result of {a} {word} {b} is {result}."


def story(rng: random.Random) -> str:
    """Write a story of five to seven sentences."""
    (hero, friend), place, thing = rng.sample(_NAMES, 2), rng.choice(_PLACES), rng.choice(_THINGS)
    middle = [
        f"{hero} had {thing} and was proud of it.",
        f"On the way {hero} met {friend}.",
        f"{friend} was looking for {thing}.",
        f'"Come with me," said {friend}.',
        f"Together they walked to {place}.",
        f"There {friend} showed {hero} {rng.choice(_THINGS)}.",
        rng.choice(_WEATHER),
    ]
    chosen = sorted(rng.sample(range(len(middle)), rng.randint(3, 5)))
    return " ".join([f"One morning {hero} went to {place}.", *(middle[i] for i in chosen), rng.choice(_ENDS)])


def code_snippet(rng: random.Random) -> str:
    """Write a few lines of Python."""
    name, a, b = rng.choice(("add", "total", "scale", "shift", "count")), rng.randint(1, 9), rng.randint(1, 9)
    word = rng.choice(_NAMES)
    return rng.choice(
        (
            f"def {name}(a, b):\n    return a + b\n\nprint({name}({a}, {b}))  # {a + b}",
            f"for i in range({a}):\n    print(i)",
            f'name = "{word}"\nprint("Hello, " + name)',
            f"numbers = [{a}, {b}, {a + b}]\nprint(sum(numbers))  # {2 * (a + b)}",
            f"def {name}(x):\n    return x * {a}\n\nprint({name}({b}))  # {a * b}",
            f'print("{word}")',
            f'colours = ["red", "green", "blue"]\nfor colour in colours[:{min(a, 3)}]:\n    print(colour)',
        )
    )
