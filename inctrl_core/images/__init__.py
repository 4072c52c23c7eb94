"""A file on disk becomes a tensor, and a map becomes a picture."""
