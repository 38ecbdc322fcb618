"""Everything that is compiled, downloaded or installed before the embedded cloud can start."""
