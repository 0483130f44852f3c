"""The process: start, warm-up, drain, several processes behind one port."""
