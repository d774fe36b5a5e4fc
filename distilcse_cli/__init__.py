"""DistilCSE: make a small, fast student of a large sentence-embedding model, and prove what it kept."""

__version__ = "0.1.0"
