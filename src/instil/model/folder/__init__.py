"""Folder: model files on disk: names, headers and JSON, never a weight."""
