"""Bytes to rows, each with its place. One module per kind of file; `rows` is the entry point."""
