"""Simulated days: what a retrain, a warm start and folding are worth, night after night."""
