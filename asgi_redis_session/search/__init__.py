"""Queries across sessions, answered by Redis Search."""

__all__: list[str] = []
