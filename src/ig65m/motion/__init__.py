"""Camera motion: what the camera does in a video, how fast, and how sure that is."""
