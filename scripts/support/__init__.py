"""Modules that all scripts share: paths, processes, progress lines, interrupts."""
