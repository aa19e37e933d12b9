"""The REST API: a thin Flask application over orch8.runtime."""
