"""What a history says of a candidate: one idea a file, all on the terms of `base.py`."""
