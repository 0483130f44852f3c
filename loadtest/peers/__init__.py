"""Absorb beside ONNX Runtime alone and six other servers of the same model. Read README.md first."""
