"""A built network over a whole image set, in constant memory, in pieces that can be resumed."""
