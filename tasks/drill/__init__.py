"""A drill as Prefect tasks, its lock for other flows, and where its evidence is kept."""
