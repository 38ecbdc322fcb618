"""EC2: instances that become nodes, and shortages and interruptions on request, for tests and users."""
