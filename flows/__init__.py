"""The flows: one a file; they sequence tasks and decide, and touch no outside system."""
