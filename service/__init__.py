"""Online half: a request in, scores out. Start reading at `scoring/pipeline.py`."""
