"""Checks whether this machine can carry the embedded cloud. Standard library only."""
