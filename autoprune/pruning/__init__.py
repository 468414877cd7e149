"""Channel groups of a module (``groups``), which channels to keep (``ranking``, ``criteria``) and what criteria know of
them (``statistics``, through the gates of ``taps``), cutting them out (``slicing``), proof that the cut is right
(``equivalence``) and BatchNorm statistics afterwards (``calibration``)."""
