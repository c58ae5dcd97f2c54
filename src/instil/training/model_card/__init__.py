"""The model card: what a reader of a published model needs. `run` writes one into ``model/``, `export` into every export."""
