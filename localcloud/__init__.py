"""The embedded cloud: AWS's API on one machine, and real parts behind it. Nothing outside this package imports it."""
