"""The tasks: one outside system a file, thin over plain functions that know nothing of Prefect."""
