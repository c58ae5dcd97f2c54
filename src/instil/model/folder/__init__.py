"""Model files on disk: found, checked and written. Only names, headers and JSON are read here, never a weight."""
