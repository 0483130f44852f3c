"""Where a user's state is looked for: this process's memory first, the cache behind it.

    states.py   `TieredStates.find`: host tier, then one read of the cache for all who wait for the same user
    host.py     the host tier: decoded records, and users whom the cache does not hold
    byte_lru.py a table of so many bytes; the least recently used entries leave first
    user.py     what is kept of a user, and what it weighs
    flight.py   one read for all who ask for the same at once
    prefetch.py users that will be asked for soon, read in the background
    counts.py   lookups and results of each tier, and the metrics

All of it belongs to the event loop's thread: nothing is locked, and nothing else may touch it.

What callers may rely on. A lookup counts once in each tier that was asked, together with its result, so results add
up to lookups whatever is cancelled or fails. A new generation is seen by the first request that picks it. A record that
is overwritten in place is seen after `host_cache_ttl_s` at most, a user added in place after `host_cache_absent_ttl_s`.
"""
