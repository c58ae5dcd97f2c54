"""Turns: what the model must generate in a turn, decided on text alone; no ids."""
