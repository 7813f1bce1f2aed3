"""The embedded engine: promises and tasks in one SQLite file, which all processes of a user on one machine share."""
