"""The engine that computes a checkpoint on CPUs."""
