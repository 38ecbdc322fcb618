"""A Kubernetes cluster's control plane, and what the cloud itself applies to a cluster."""
