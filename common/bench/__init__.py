"""`make bench`: how fast everything around the network is, beside the same thing written the straightforward way."""
