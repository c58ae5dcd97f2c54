"""Model files on disk: finds them, checks them and writes them. Names, headers and JSON are read here, never a weight."""
