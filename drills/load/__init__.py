"""The open-loop load generator: sends requests at a constant rate and records each of them.

It runs in the cluster, in any image with Python 3.10 or newer: `drills/runner/load_file.py` packs this folder into one file. So it imports
the standard library, h11 and `drills/records.py`, and nothing else.
"""
