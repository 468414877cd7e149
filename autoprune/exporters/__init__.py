"""Handing a pruned model over: as a folder that rebuilds it without unpickling anything, or as a program to run.

Every file is verified by running it against the PyTorch model before it appears under its name.
"""
