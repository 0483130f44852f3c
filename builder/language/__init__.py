"""Field vectors from a language model that was tuned to tell which field a value belongs to (LLaCTR's SSFT).

Build time only. Nobody else knows transformers and peft; `builder.language.vectors` is the way in.
"""
