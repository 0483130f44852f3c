"""Layers that two or more models use. Their constructors take plain keyword numbers, not a config.

Start with `frame.py` (everything around the long history, shared by all sequence models) or `field_frame.py` (the same
for field models). Then read what the model at hand imports:

- attention over a history: `target_attention.py` (DIN, LREA), `multi_head.py` (SIM, ETA, TWIN), `causal_attention.py`
  and `uab.py` (SUAN)
- search in a history: `top_k.py`, `sim_hash.py`, `match_counts.py`, `event_rows.py`, `count_table.py`
- pairs of fields: `field_pairs.py`, `field_tower.py`, `field_semantics.py` (LLaCTR)
- basics: `embedding.py`, `mlp.py`, `checks.py`
"""
