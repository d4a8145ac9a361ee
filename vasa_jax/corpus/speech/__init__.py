"""Sentences, their sound and their phonemes."""
