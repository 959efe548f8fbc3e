"""The models: cards, labels, weights, and how they are downloaded and loaded."""
