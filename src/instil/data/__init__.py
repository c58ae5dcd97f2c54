"""Data: from outside files to conversations, and from encoded examples to a store that training reads."""
