"""The worker that folds live events into users' states. A process of its own: `absorb follow`."""
