"""Search for clips by their features."""
