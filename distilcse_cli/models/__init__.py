"""Sentence encoders: pooling, references, and the folders students are saved in."""
