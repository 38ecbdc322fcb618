"""Checks whether this machine can run the embedded cloud. Standard library only."""
