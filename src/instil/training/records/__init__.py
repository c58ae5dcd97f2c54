"""Records: what a person finds in a run folder."""
