"""Distilled students: what the papers' designs keep of a trained model, which a few seeds can distinguish.

``design`` says which rows in which tables, ``images`` which photographs, ``cells`` trains and tests, ``tables`` and
``claims`` say what follows, ``report`` writes it down.
"""
