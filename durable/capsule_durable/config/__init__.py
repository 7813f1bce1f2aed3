"""The configuration, and the directories that Capsule uses."""
