"""A stand-in for Sophon's Python package, whose only module here is sail."""
