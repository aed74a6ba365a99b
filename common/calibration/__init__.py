"""The calibration lint: units, range, colour order, duplicates, overlap with the evaluation images."""
