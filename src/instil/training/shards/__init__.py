"""A model in shards, read from safetensors files and written to them part by part: no process ever holds it whole."""
