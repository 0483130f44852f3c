"""The Open Inference Protocol V2: `messages` and `data_plane` are independent of the transport, HTTP or gRPC."""
