"""Metrics, request log, tracing, capture of slow requests."""
