"""Finding clips by their features."""
