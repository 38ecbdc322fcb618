"""The pictures of a drill, of a series and of a surge, as SVG drawn from evidence and records alone."""
