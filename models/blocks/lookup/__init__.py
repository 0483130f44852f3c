"""Which events of a history a candidate meets: by key, by hash, by rank."""
