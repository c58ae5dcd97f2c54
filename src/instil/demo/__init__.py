"""The demonstration: an embedded base model, the facts that it knows, and questions about those never trained on."""
