"""Reporting: runs listed, compared and shown, from what is in their folders; nothing here loads a model.

Why: a run is listed also while it goes on, after it was stopped, and where files of it are missing or damaged.
"""
