"""Chat templates: rendering that records the origin of every character, named templates, format strings."""
