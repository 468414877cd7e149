"""How fast autoprune is on this machine: one file a measured thing, ``suite.run`` for all of them.

Scripts in ``tests/benchmarks`` use the same parts for longer measurements.
"""
