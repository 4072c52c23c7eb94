"""The tab Live: a camera or a video."""
