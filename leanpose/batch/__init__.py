"""Jobs over archives, on Ray Data: parts of a plan, each done once, whatever breaks on the way."""
