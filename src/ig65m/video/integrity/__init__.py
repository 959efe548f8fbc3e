"""Whether a file is whole: cut ends, lost packets, broken containers."""
