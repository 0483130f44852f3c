"""Programs beside the service: demo, replay, keys. Not part of a request's path."""
