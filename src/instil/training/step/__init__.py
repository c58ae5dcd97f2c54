"""The arithmetic of an optimizer step. It knows no recipe and no folder."""
