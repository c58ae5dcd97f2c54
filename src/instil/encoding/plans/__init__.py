"""Plans: the fast way to encode many conversations, which gives the examples of `encoder` (tested)."""
