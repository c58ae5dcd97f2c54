"""The model: found, loaded, given chat tokens and adapters, attending example by example, and its loss.

Flow: `location` finds a folder, `loading` makes a module of it, `new_tokens` and `adapters` change what trains, `attention`
and `loss` make a flat micro-batch of whole examples equal to every example alone, `probe` proves that before the first step.
"""
