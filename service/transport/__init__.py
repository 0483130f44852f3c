"""What HTTP and gRPC share: access keys, body limits, deadlines, disconnects, JSON responses."""
