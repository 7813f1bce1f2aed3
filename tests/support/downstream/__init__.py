"""The test suites of other projects: which ones run, and what their outcomes mean."""
