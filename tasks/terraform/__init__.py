"""Terraform: runs it so that neither its death nor ours damages the state, and explains what it says."""
