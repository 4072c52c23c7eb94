"""The tab Inspect: one image, closely."""
