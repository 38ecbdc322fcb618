"""Prefect's server and worker and the port forwarders: started, followed and ended."""
