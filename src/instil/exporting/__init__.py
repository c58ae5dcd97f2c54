"""Ships a model: merged, adapter, quantised, GGUF, Ollama; parity checked, with its card."""
