"""The method: features, bank, residuals, fusion, score."""
