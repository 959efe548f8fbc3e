"""What a network sees."""
