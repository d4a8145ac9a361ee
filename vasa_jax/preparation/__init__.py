"""Raw videos and photographs to labelled records."""
