"""Where a worker gets events from: a stream of the cache, or Kafka."""
