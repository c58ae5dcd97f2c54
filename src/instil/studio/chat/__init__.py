"""Talking to runs: served by `instil serve` on loopback, side by side, kept below the workspace."""
