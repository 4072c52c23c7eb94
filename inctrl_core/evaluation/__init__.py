"""The few-shot protocol: data sets, draws, metrics, tables."""
