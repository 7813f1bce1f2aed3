"""Files, locks and processes: what all stores share."""
