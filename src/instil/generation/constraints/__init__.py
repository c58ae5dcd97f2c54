"""Answers of a prescribed form: JSON, JSON of a schema, tool calls. Tokens that would leave the form are masked."""
