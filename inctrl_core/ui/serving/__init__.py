"""The server under the page: where it listens, whom it answers, how it ends."""
