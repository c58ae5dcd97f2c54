"""Code that is compiled for this processor: products of a few rows, and the attention of one token a row."""
