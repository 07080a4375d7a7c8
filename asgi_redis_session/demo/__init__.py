"""The demo: a small shop that shows what a session is. It needs the extra `demo`."""
