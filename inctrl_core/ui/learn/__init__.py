"""The tab Learn: one example, step by step."""
