"""From videos to numbers: one file per report; metrics, held-out sets and tables that they share."""
