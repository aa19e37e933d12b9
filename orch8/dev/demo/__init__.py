"""``make demo``: three payments through a real orch8, one of them through a crash; then a count."""
