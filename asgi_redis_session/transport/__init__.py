"""How commands reach a Redis server. Knows nothing about sessions."""
