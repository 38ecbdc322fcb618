"""Programs that need the locked environment: they import the project's packages or its dependencies.

Everything else in scripts/ is standard library only and starts these by the environment's interpreter, as programs.
"""
