"""Measuring a candidate: weights from a source, BatchNorm calibrated, accuracy on search-val."""
