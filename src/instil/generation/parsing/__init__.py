"""Answers as text, parsed into reasoning, content and tool calls."""
