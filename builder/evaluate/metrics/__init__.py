"""Metrics of predictions: on the host by target, on a device by slate and over whole pools."""
