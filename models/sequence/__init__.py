"""Models of long histories, one file each: a config, and which readers of the history (`models/readers/`) they have.

Start with `sequence_model.py`, which joins the readers with what is around the history (`models/blocks/frame.py`), then
`lrea.py`, which folds a history into r rows. By what a candidate costs online:

- O(L): `din.py` attends to every event; `sim.py`, `eta.py` and `twin.py` search K events, then attend to those;
  `suan.py` and `light_suan.py` attend to the cached keys and values of a stack of blocks
- O(r) or flat: `lrea.py`, `sdim.py`, `linear_attention.py`
- nothing: `mean_pool.py`, one summary for all candidates
"""
