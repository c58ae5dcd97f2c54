"""Chat templates: rendering in which every character knows its origin, named templates, format strings."""
