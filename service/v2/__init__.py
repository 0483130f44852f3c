"""The Open Inference Protocol V2: `messages` are what is said, `plane` answers, the doors carry both."""
