"""EKS: clusters, node groups, access entries, add-ons, Pod Identity, and the token review for the API server."""
