"""Channel groups of a module (``groups``), which channels to keep (``ranking``, ``criteria``), cutting them out
(``slicing``), proof that the cut is right (``equivalence``) and BatchNorm statistics afterwards (``calibration``)."""
