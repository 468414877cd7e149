"""MACs and parameters as a function of widths: ``table`` (numpy only) and ``trace`` (reads them off a module)."""
