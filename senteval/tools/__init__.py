"""What scripts import from SentEval's own `senteval.tools`."""
