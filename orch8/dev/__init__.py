"""Embedded servers and process supervision for development."""
