"""Losses of tokens, losses of graphs on logits, and their sum over teachers."""
