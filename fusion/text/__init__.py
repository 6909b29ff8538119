"""Conversations as tokens and bytes: how they are read, cut and aligned."""
