"""From a model as named to vectors: references, encoders, poolings, embedding, and saved folders."""
