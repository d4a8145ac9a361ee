"""Voices beyond eSpeak's for the audio encoder: other synthesisers, people whose words are known, and their shards."""
