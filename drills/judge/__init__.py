"""Judges a drill from what was observed: steady state, SLOs, doubts about the measurement, and the verdict."""
