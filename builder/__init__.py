"""Offline half: events in, a verified generation of cached users out. Start reading at `pipeline.py`."""
