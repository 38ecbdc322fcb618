"""The flows, one per file. They call tasks in order and decide; only tasks access outside systems."""
