"""The container images of the service: built, pushed and found by digest."""
