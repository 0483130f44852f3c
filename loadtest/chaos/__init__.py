"""Chaos: a real service over a real cache under steady load, with faults. `absorb chaos --list` lists the scenarios.

`faults/` has the scenarios by the part that they break, `catalogue.py` lists them, `verdict.py` holds the rules,
`expected.py` computes the scores that answers must have.
"""
