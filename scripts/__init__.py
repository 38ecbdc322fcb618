"""The code behind `./demo` and `./test`: set-up, the services, following a run, port forwarding.

Standard library only (Python ≥ 3.11), because it runs before anything is installed. `scripts/installed/` is the exception:
programs that import the project's packages, started by the locked environment's interpreter.
"""
