"""Final weights for a pruned architecture: inherited and trained on, or trained from scratch.

``arms`` says what each way starts from and how long it trains; ``runs`` carries one out in a worker process.
"""
