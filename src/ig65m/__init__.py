"""Labels and features from video with the R(2+1)D networks of VMZ."""

__version__ = "0.1.0"
