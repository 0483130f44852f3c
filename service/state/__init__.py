"""Looks up a user's state: in the memory of this process (host tier), then in the cache."""
