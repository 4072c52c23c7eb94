"""Heads and patch adapters, trained on auxiliary classes."""
