"""ONNX graphs: read, run, cut, given a batch or a size, and what can be told from them alone."""
