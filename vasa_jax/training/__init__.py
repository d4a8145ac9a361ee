"""From batches to checkpoints: one loop, one task per stage."""
