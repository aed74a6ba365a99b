"""Weights as their authors publish them: read without trusting them, renamed, and exported to ONNX."""
