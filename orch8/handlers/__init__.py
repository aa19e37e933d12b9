"""What a step can call: HTTP handlers, Python functions and the built-in handlers."""
