"""Layers that two or more models use. Their constructors take plain keyword numbers, not a config.

Start with `frame.py` (everything around the long history, shared by all sequence models) or `field_frame.py` (the same
for field models). Then read what the model at hand imports:

- attention over a history: `kernel.py`, `target_score.py` (DIN, LREA), `age_bias.py`, `causal_attention.py` and
  `uab.py` (SUAN)
- search in a history: `top_k.py`, `sim_hash.py`, `matching.py`
- what passes between frame and readers: `reading.py`
- pairs of fields: `field_pairs.py`, `field_tower.py`, `field_semantics.py` (LLaCTR)
- basics: `unit_items.py`, `embedding.py`, `take_rows.py`, `mlp.py`, `checks.py`
"""
