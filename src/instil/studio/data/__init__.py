"""Data in the studio: what is looked at, raw rows by their byte, uploads, and stored inspections."""
