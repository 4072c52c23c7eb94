"""Model directories, on disk and on the Hub."""
