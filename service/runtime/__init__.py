"""ONNX sessions, batching and the threads that score."""
