"""How good a network is on labelled videos: metrics, predictions, and a report to look at."""
