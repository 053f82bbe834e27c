"""Threadlab: runs threading scenarios as jobs and reports what the threads really did.

The houses of this package and their floors stand in `pyproject.toml`. This module imports nothing, so that a child
interpreter of any version can be a part of the package without loading the service.
"""

__version__ = "0.1.0"
