"""Everything that runs inside the cluster: the Serve application, the load generator, the chat. Imports no other folder of ours."""
