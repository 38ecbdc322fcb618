"""Benchmarks of the service: its speed, as ratios measured in one run, and the evenness of its streams. Runs inside the `bench` image."""
