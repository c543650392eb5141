"""Rounds over HTTP: what a service keeps, whom it admits, and how it drives runs."""
