"""Terraform: runs it so that no death of a process damages the state, and turns its output into progress and errors."""
