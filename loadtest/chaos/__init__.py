"""Chaos: a real service over a real cache under steady load, with faults. `absorb chaos --list` lists the scenarios.

`catalogue.py` lists the faults, `verdict.py` holds the rules, `expected.py` computes the scores that answers must have.
"""
