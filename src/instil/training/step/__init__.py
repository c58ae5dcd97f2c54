"""Step: the arithmetic of an optimizer step; knows no recipe and no folder."""
