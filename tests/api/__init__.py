"""The public API: what it consists of, and that each part does what its docstring says."""
