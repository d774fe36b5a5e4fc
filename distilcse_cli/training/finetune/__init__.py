"""Stage 2: supervised contrastive fine-tuning on triples."""
