"""Rendering for people: terminal, HTML, JSON."""
