"""Models of feature fields: they read no history. All may be enhanced by field vectors of a language model (LLaCTR).

Start with `base.py` (what they share), then `fm.py`, the shortest. `fwfm.py` and `fmfm.py` weigh the pairs of FM;
`deep_fm.py`, `final_mlp.py` and `wukong.py` add or stack perceptrons.
"""
