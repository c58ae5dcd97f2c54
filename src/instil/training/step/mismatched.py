"""KTO's mismatched answers: each prompt of a step with the answer to another one.

KTO estimates from them how far the model has moved from its reference. Which answer a prompt gets depends on the step
alone, never on micro-batches or processes.

Why: the next example whose prompt differs, in the order of the step. A reversed order would give the middle one its own
answer, and an order within a micro-batch would change with the machine.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from instil.conversation import Example
from instil.preparation.store import ExampleStore


def mismatched(store: ExampleStore, indices: Sequence[int], *, longest: int | None = None) -> list[Example]:
    """Return one example for each index: its prompt, with the answer of the next one that has another prompt.

    Args:
        store: The examples.
        indices: Their numbers in the order of the step.
        longest: Tokens that an example is cut to at its end, where prompt and answer together are longer.

    Returns:
        The examples; none if there is only one index. If all prompts are equal, the next answer is taken.

    Example:
        >>> store = ExampleStore.from_examples([Example([1, 2], [0.0, 1.0]), Example([3, 4, 5], [0.0, 0.0, 1.0])])
        >>> [example.token_ids for example in mismatched(store, [0, 1])]
        [[1, 5], [3, 4, 2]]
    """
    if len(indices) < 2:
        return []
    examples = [store[index] for index in indices]
    firsts = [first_trained(example) for example in examples]
    prompts = [tuple(example.token_ids[:first]) for example, first in zip(examples, firsts, strict=True)]
    found = []
    for place, prompt in enumerate(prompts):
        others = ((place + step) % len(prompts) for step in range(1, len(prompts)))
        other = next((number for number in others if prompts[number] != prompt), (place + 1) % len(prompts))
        ids = [*prompt, *examples[other].token_ids[firsts[other] :]]
        weights = [0.0] * len(prompt) + [float(weight) for weight in examples[other].weights[firsts[other] :]]
        # A cut never leaves an example without a trained token.
        length = max(longest or len(ids), len(prompt) + 1)
        found.append(Example([int(number) for number in ids[:length]], weights[:length]))
    return found


def first_trained(example: Example) -> int:
    """Return the index of the first token with a weight above 0: where the prompt ends.

    Example:
        >>> first_trained(Example([5, 6, 7], [0.0, 0.0, 1.0]))
        2
    """
    return int(np.flatnonzero(np.asarray(example.weights) > 0)[0])
