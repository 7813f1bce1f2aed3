"""Pure analysis of the namespace: what a cell used, what changed, what shares memory."""
