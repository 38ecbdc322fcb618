"""The status of a stack: what exists of it in AWS and in its cluster. Nothing is changed."""
