"""Off the shelf: what a trained model loses when a reduction is put into it without any training.

``settings`` says which methods at which amounts, ``measure`` runs them on crops of photographs beside the
dense model, ``cells`` keeps each result, ``tables`` and ``claims`` say what follows from them.
"""
