"""Where a user's state is found: the host tier, then the cache."""
