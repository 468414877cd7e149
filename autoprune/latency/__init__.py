"""Latency: measured on a device, and predicted for every candidate of a space from a table of measurements."""
