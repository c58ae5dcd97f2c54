"""The model: found, checked, loaded, given chat tokens and adapters, and turned into a loss.

Flow:

1. `folder` finds the files and checks them, `loading` makes a model of them.
2. `new_tokens`, `adapters` and `freezing` decide what trains.
3. `probe` proves, before the first step, that each example gets the same result in a flat micro-batch as alone.
4. `attention` and `loss` compute flat micro-batches of whole examples.

`speedups` saves time and memory, and can be deleted.

Nothing here knows the recipe beyond its sections `model` and `adapter`, and nothing knows conversations.
"""
