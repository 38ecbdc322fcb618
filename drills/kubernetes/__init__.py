"""The Kubernetes API, and functions on its objects: manifests, labels, ownership, leases, problems of pods."""
