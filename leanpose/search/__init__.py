"""Find the best network of a supernet under a limit of multiply-adds or milliseconds."""
