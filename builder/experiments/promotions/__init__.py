"""The task `promotions`: which of a store's promoted products does a household buy in this visit?

Start at `__main__.py`. `train` needs numpy and torch only; the other commands need the builder's packages.
"""
