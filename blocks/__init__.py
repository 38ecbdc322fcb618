"""Saved, typed configuration (Prefect Blocks), the parameters of runs, and the clients made from them."""
