"""Models of long histories, one file each. They share what is around the history: `models/blocks/frame.py`.

Start with `lrea.py`, which folds a history into r rows; `slots.py`, `hash_slots.py` and `hybrid_slots.py` are its ways
to fold. By what a candidate costs online:

- O(L): `din.py` attends to every event; `sim.py`, `eta.py` and `twin.py` search K events, then attend to those;
  `suan.py` and `light_suan.py` attend to the cached keys and values of a stack of blocks
- O(r) or flat: `lrea.py`, `sdim.py`, `linear_attention.py`
- nothing: `mean_pool.py`, one summary for all candidates
"""
