"""What the builder's gate and the service's replay share: distances of rankings, and captured requests. numpy only."""
