"""The embedded engine: promises and tasks in a SQLite file."""
