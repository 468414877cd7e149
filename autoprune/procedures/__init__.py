"""Whole pruning procedures of papers: what is scored, removed and trained in which order, as data and an engine.

``presets`` has them by name, ``phases`` what they are made of, ``engine`` carries one out on a network and its images.
"""
