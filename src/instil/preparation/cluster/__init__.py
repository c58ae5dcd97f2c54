"""Preparation on a Ray cluster: pieces of files instead of rows, a shard for each, merged in order."""
