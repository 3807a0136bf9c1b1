"""Closed forms of the multiply-adds of the papers' models, and how each printed FLOPs cell is read."""
