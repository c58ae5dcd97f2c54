"""From a conversation to examples: exactly what serving would prompt with, and what the model must then write."""
