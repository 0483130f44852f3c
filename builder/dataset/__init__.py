"""Events in, batches of slates out; training and evaluation share it."""
