"""Fronts, selection, plots and reports over stored trials. Needs no torch, ray or sqlalchemy."""
