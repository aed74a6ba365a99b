"""What is known about a cell, one network on one chip in one variant: what make would do for it, and what it left."""
