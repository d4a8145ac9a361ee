"""From videos to numbers."""
