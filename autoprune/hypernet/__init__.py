"""MetaPruning's hypernetwork: one network whose convolution weights are a function of the widths, for any search space.

``network.PruningNet`` is the network, ``training.hypernet`` trains it once and keeps it in the cache.
"""
