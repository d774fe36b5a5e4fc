"""Use a finished model: encode files."""
