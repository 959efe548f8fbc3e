"""Shots: finding the transitions between them with TransNetV2, and files that list them."""
