"""What the report, the sidecar and README say, each from the files that the stages left."""
