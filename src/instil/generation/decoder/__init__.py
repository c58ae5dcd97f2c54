"""The steps of plain decoder models on a CPU: weights laid out once, a cache written in place, no graph of modules."""
