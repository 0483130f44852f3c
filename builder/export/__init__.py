"""Stage 4: a checkpoint in, ONNX graphs and one record per user out."""
