"""What the builder writes and the service reads. Imports numpy and the standard library, never torch.

In the order of a build: `schema.py` (a model's inputs), `vocabulary.py` and `row_index.py` (raw ids to dense ids),
`age.py` (ages of events in buckets), `artifact.py`, `item_texts.py`, `example_slate.py` and `calibration.py` (one
trained model on disk), `record.py` (one user's state in the cache), `generation.py` (keys of the cache, and the pointer
to the generation that serves).

`errors.py` is the root of all errors. `cache_url.py` reads the URL of a cache, and `embedded_cache.py` starts the
embedded one. `version.py` is the version of the project, and `epoch.py` says which numbers are epoch seconds.
"""
