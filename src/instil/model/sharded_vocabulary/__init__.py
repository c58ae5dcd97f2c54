"""Embedding and head whose rows lie over the processes: no process ever holds the table whole."""
