"""Encoding: from a conversation to examples, which are serving's prompts and what the model must generate after them.

`chat_tokenizer` is the public top. `turns/` decides on text alone what must be generated, `weights` decides every
token's weight, `encoder` puts both together, and `plans/` does the same faster for many conversations.
"""
