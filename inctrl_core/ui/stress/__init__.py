"""The tab Stress: how far to trust a result."""
