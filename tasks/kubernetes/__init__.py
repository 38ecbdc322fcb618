"""The Kubernetes API, and generic functions on its objects: manifests, labels, ownership, leases."""
