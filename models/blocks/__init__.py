"""Layers that two or more models use. Their constructors take plain keyword numbers, not a config.

Start with `frame.py` (everything around the long history, shared by all sequence models) or `fields/frame.py` (the same
for field models). Then read what the model at hand imports:

- `attention/`: over a history, `kernel.py`, `target_score.py` (DIN, LREA), `age_bias.py`, `causal_attention.py` and
  `uab.py` (SUAN)
- `lookup/` of events in a history: `top_k.py`, `sim_hash.py`, `matching.py`, `item_runs.py`
- `fields/`: pairs of fields, towers, LLaCTR's semantics
- what passes between frame and readers: `reading.py`
- basics: `unit_items.py`, `embedding.py`, `take_rows.py`, `mlp.py`, `checks.py`
"""
