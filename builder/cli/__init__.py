"""The command line: arguments, progress bars and tables; no other folder of the builder imports it."""
