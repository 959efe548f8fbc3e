"""The models: cards, labels, weights, download and loading."""
