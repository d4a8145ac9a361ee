"""Photo heads: a mesh fitted to a photograph, posed and animated by the corpus's performances, with exact truth."""
