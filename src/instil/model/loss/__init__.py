"""The loss of a flat micro-batch: from hidden states to one weighted sum."""
