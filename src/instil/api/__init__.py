"""The public calls of Python that start from a recipe: train, prepare, plan, inspect. The command line uses them too."""
