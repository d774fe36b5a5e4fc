"""Text and tokens: corpora, token stores, the catalogue of downloads."""
