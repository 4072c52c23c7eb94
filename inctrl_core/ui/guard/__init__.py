"""The guard before the page: bodies, uploads, addresses, the queue's share for each visitor."""
