"""Images with labels on disk: subsets, their layouts in folders, and masks."""
