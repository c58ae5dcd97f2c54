"""Talks to a model through the template and the stop tokens that it was trained with."""
