"""Prefect's server and worker and the port forwarders: starting, following and ending them."""
