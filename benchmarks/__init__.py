"""How fast the service is, as ratios measured in one run; how even its streams are. Runs inside the `bench` image."""
