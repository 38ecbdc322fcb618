"""Drills: what one is, what was seen, the verdict, the evidence and its report. Plain Python, no outside system."""
