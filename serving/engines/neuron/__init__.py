"""The engine for Inferentia2, on transformers-neuronx."""
