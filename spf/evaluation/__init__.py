"""Measuring customised portraits against their originals: the paper's eight metrics and what stands beside them."""
