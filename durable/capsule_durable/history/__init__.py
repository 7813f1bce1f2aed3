"""The history of cells: sources, outputs, outcomes, runs, and the ledger."""
