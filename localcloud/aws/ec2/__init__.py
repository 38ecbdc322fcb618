"""EC2: instances that become nodes, and the shortages and interruptions that tests and users ask for."""
