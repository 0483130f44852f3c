"""HTTP: from a request's bytes to a query, and from scores to an answer."""
