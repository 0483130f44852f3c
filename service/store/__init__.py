"""Clients of the cache: one Redis server or a Redis Cluster."""
