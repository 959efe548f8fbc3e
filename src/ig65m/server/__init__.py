"""The HTTP service over an index: JSON routes, media, uploads, and the web page."""
