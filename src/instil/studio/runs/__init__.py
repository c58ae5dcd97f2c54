"""Runs as the studio's pages show them: followed while they train, listed, compared, noted on, deleted."""
