"""Times the engines of the service on one artifact, in turn, without a service around them."""
