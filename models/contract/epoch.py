"""Which numbers are epoch seconds. Standard library only."""

END_OF_TIME_S = 4_102_444_800
"""The year 2100. A later epoch second is in another unit, such as milliseconds."""
