"""Plans: the fast way to encode many conversations, which gives the examples of `encoder` (tested).

This package can be deleted. `ChatTokenizer.encode` and `encode_many` then call `encoder.encode_conversation` for each
conversation, add the report that it returns to their own, and `encode_many` yields the error of a refused one.
"""
