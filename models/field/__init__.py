"""Models of feature fields: FM to WuKong, plain or enhanced by a language model's knowledge of the fields (LLaCTR)."""
