"""From a network's outputs to people and objects in the photograph, as the networks' authors do it."""
