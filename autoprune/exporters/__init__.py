"""Handing a pruned model over: a folder that rebuilds it without unpickling anything."""
