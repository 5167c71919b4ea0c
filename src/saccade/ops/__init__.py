"""Array operations that families, dialects and the command line share."""
