"""A first recipe for a log that was never seen: looks at its columns, guesses what they are, and says why."""
