"""ElastiCache: replication groups of real Redis servers, with parameter and subnet groups."""
