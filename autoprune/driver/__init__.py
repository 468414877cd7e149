"""The driver: joins controller, constraints, limits and store behind ask and tell."""
