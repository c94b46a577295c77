"""Read photographs of any common format with their colour, alpha and metadata, and write results atomically."""
