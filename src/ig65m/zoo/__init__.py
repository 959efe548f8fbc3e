"""What there is to load: cards, labels, weights, and how they are fetched and read."""
