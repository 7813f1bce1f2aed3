"""Durable engines: where promises and tasks are stored."""
