"""Datasets, training, evaluation: what needs the library and nothing of the interface."""
