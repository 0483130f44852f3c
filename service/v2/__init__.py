"""The Open Inference Protocol V2: `messages` are what is said, `plane` answers, `http` is one of its doors."""
