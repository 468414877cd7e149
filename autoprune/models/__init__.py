"""Where networks come from: built-in classics, torchvision by name, a user's Python file; and their checkpoints.

``registry.build`` is the one door; ``checkpoint`` reads weights safely.
"""
