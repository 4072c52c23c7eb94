"""The meaning of a score: its range, its causes, how far to trust it."""
