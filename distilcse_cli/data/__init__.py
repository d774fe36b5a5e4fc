"""Text and tokens: corpora, triplets, token stores."""
