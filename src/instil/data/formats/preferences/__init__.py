"""Rows that compare or judge answers: chosen and rejected, several rejected, scored answers, judged answers."""
