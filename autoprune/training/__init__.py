"""Training the network that a search prunes, and scoring networks on images.

``base.base_model`` gives the trained network (from the cache where it can); ``scoring.score`` measures one.
"""
