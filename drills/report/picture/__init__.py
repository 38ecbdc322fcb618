"""The pictures of a drill, of a series and of a surge: SVG, drawn from evidence and records only."""
