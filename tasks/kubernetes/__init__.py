"""The Kubernetes API, and what is generic about its objects: manifests, labels, ownership, leases."""
