"""Images and labels: named data sets and folders, decoded once, split so that the search never sees the test images.

``sources.load`` is the one door; ``dataset`` has the types it returns.
"""
