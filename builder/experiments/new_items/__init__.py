"""How well new items are scored by their fields: measured on items that first occur in the test days."""
