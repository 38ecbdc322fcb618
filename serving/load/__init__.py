"""The open-loop load generator: a Job in the cluster that asks at a constant rate and writes down every request."""
