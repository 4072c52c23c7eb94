"""Bounds and decoders for what Pillow alone reads wrongly, slowly or not at all."""
