"""The open-loop load generator: a Job in the cluster that sends requests at a constant rate and records each of them."""
