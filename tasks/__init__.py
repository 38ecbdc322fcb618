"""The tasks, thin Prefect tasks over plain functions: one module per outside system."""
