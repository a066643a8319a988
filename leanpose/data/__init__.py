"""Annotation files in, training batches out."""
