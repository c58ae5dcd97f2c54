"""Serves a model over an OpenAI-compatible HTTP API."""
