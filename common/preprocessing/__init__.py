"""From a photograph to the tensor that a network eats, exactly as at run time."""
