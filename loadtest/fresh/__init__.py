"""How long an event takes to change a score, and how many events a worker folds in a second."""
