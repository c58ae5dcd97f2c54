"""Preparation: a recipe and its conversations become a store of examples and a ledger."""
