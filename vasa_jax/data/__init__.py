"""From videos to batches: media files, face crops and the built-in corpus."""
