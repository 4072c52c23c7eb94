"""The tab Failures: cases that fool the model."""
