"""A stand-in for ais_bench.infer."""
