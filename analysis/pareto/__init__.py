"""Which method pays in a model of your own: quality, FLOPs, speed and memory of all of them, and one recommendation.

sweep     what is measured: ``analysis.offtheshelf`` for quality, this package for speed and memory on your device
choice    which quality counts, the front, and the recommendation in words
pictures  the Pareto figure, and one HTML page with a line for each point
"""
