"""Adapters: the only place that knows peft."""
