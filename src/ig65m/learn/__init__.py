"""Learning from labelled videos: a new last layer on features, how good it is on held-out videos, and the model file."""
