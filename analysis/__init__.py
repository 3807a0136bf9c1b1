"""Analyses of token-sparsified vision transformers; each runs as ``python -m analysis.NAME``.

Importing this package costs nothing: torch, pandas and matplotlib are paid for only by the
functions that use them.
"""
