"""The tab Batch: many images, ranked."""
