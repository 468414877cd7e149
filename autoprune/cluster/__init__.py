"""Searches as jobs of a Ray cluster: its job server over HTTP, and what a job takes along; all without Ray."""
