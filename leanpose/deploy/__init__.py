"""Trained weights to files for other engines. Needs torch."""
