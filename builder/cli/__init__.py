"""The command line: arguments, progress bars and tables; no other room imports it."""
