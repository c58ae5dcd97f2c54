"""Arithmetic that is faster or needs less memory. It can be deleted: every module only replaces an equal computation.

Proved by:

- `gates`: tests/model/speedups/test_gates.py, equal to transformers' layers to the bit, values and gradients,
- `norms`: tests/model/speedups/test_norms.py, equal within rounding, values and gradients,
- `round_sizes`: tests/model/speedups/test_round_sizes.py, the same loss and gradients with padding and without.

`gates` and `norms` also compare themselves with each model's own code, and replace only layers that give the same
numbers. To delete those two, remove their calls from `loading.lighten_layers`. To delete `round_sizes`, replace its
`round_up` in `loss`, `attention.cpu_plan` and `training.memory` by the size itself, and `loss.chunked`'s rounding down
by the number of rows.
"""
