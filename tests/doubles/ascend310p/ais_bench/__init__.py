"""A stand-in for ais_bench, of which infer.interface is used."""
