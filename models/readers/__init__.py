"""Readers of a long history: what a model of `models/sequence/` reads it with. All have the interface of `base.py`.

By what the state holds:

- the history itself, 8 bytes an event: `kernel.py` and `phi.py` attend to all events, `search.py` to a few of them
  (SIM, ETA, TWIN), `counts.py` counts
- slots: `slots.py` (content, clusters, hashes) under the kernel, `position_slots.py` (the paper's LREA)
- sums: `collisions.py` (SDIM), `features.py` (random features of the kernel), `pooling.py` (linear attention, mean)
- counts of a fixed size: `item_table.py`, `sketch.py`
"""
