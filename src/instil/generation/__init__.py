"""Generation: prompt a model with the template and stop tokens that it was trained with, and read its answers."""
