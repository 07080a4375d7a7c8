"""What the tests share: servers, gates, sessions, pages, values."""
