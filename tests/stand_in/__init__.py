"""A stand-in for a GPU: its tensors compute on the CPU, but carry a device of their own.

Nothing here is fast. What it shows is what a CPU hides: a tensor that was made on the wrong device, and every place where
the host would wait for a GPU.
"""
