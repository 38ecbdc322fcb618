"""Replication groups: Redis servers, their failover, and the addresses that follow primary and replica."""
