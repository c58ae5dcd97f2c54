"""Plans: the fast way to encode many conversations, held equal to `encoder` by test."""
