"""The task `promotions`: which of a store's promoted products does a household buy in this visit?

Start at `__main__.py`. `prepare`, `floor` and `report` run where the builder runs; `train` needs numpy and torch only.
"""
