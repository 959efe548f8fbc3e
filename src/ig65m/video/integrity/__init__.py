"""Whether a file is complete: truncated files, lost packets, broken containers."""
