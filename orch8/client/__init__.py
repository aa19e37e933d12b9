"""What other programs import to talk to orch8."""
