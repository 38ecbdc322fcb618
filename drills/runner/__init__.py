"""The acting half of a drill: lock and journal, load, fault, observation, raw evidence. No Prefect in it: tasks/drill wraps it."""
