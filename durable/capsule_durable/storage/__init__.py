"""Files and processes: SQLite databases, directories that cells may write to, locks, liveness."""
