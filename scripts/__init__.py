"""What stands behind `./demo` and `./test`: set-up, services, the follower, the forwarders.

Standard library only (Python ≥ 3.11), because the first of it runs before anything is installed. What
needs the project's packages is started as a program of the locked environment.
"""
