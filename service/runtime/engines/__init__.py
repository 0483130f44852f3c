"""Engines: what computes the logits of slates. They know neither HTTP nor the cache, and no raw ids."""
