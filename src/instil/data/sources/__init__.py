"""Sources: bytes to rows, each with its place. One file a container; `rows` is the door."""
