"""What instil runs on: versions, packages that cannot be imported, memory and devices. Nothing private.

Why: this package imports the standard library and what draws bars, nothing else. A broken package must not break the
report about it.
"""
