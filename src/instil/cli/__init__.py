"""The command line: one file a verb, thin; everything that can be called from Python lives elsewhere."""
