"""The command line: one thin module for each verb.

Why: the modules import inside functions, so that `--help` loads no torch.
"""
