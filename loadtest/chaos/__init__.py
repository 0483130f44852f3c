"""Chaos: a real service over a real cache under steady load, while things break. `python -m loadtest.chaos --list`.

`catalogue.py` says what breaks, `verdict.py` which rules have to hold, `truth.py` how every score is checked.
"""
