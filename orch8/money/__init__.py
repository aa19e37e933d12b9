"""What orch8 knows of payments: providers and their evidence, declines, card networks. Pure."""
