"""Adapters, all of them peft's: made, opened, merged. No other package imports peft.

Importing these modules does not import peft, which takes seconds; full fine-tuning never needs it.
"""
