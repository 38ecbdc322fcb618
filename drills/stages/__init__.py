"""A drill from the lock to the verdict: its stages and their order. A flow executes each as a task, `leeward drill` by plain calls."""
