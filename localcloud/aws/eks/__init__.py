"""EKS: clusters, node groups, access, add-ons, Pod Identity, and the token review that API servers ask for."""
