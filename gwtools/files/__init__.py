"""Spaces from files, and plans into files."""
