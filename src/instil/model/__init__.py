"""The model: found, checked, loaded, given chat tokens and adapters, and turned into a loss.

Flow: `folder` finds the files and checks them; `loading` makes a model of them; `new_tokens`, `adapters` and `freezing`
decide what trains; `attention` and `loss` compute a flat micro-batch of whole examples; `probe` proves, before the
first step, that each example gets the same result as alone. `speedups` saves time and memory, and can be deleted.

Nothing here knows the recipe beyond its sections `model` and `adapter`, and nothing knows conversations.
"""
