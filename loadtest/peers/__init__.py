"""Comparison of Absorb with ONNX Runtime alone and with six other servers of the same model. See README.md."""
