"""Convolutions by our own kernels, compiled on the machine that runs them; without a compiler, nothing here is used."""
