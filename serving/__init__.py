"""What runs inside the cluster: the Serve application, the load generator, the chat. Stands alone."""
