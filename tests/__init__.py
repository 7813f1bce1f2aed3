"""The tests. CONTRIBUTING.md describes the folders and the markers."""
