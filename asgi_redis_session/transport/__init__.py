"""How commands reach a Redis server. Knows nothing about sessions."""

__all__: list[str] = []
