"""Weights of other programs: one module for each source."""
