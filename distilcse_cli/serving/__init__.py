"""A finished model at work: encoding files."""
