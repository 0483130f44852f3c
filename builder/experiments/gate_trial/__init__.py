"""Does the promotion gate refuse bad models and pass good ones? Plants both, and measures what its margins can see."""
