"""Rows of logits: the largest of them, and what is kept of the rest."""
