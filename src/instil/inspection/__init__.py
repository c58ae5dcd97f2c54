"""Show data as the model will see it: what is trained, what is wrong with it, and how to fix it."""
