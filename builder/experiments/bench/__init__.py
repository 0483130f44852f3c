"""Time of score graphs and trainings against length, candidates, rank and width."""
