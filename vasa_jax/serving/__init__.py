"""The studio: a page to try, a live avatar and an HTTP API (extra `studio`)."""
