"""Turns: what the model must write in a turn, decided on text alone; no ids."""
