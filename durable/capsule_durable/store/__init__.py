"""Our SQLite files: how they are opened, shared, protected and brought up to date, and what can be wrong with one."""
