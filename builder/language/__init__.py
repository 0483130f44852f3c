"""Field vectors from a language model that was tuned to tell which field a value belongs to (LLaCTR's SSFT).

Used at build time only. No other package imports transformers and peft; start at `builder.language.vectors`.
"""
