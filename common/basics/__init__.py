"""What every stage leans on: errors as one message and one hint, files whole or not at all, locks, memory, progress."""
