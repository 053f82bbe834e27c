"""Start a fork server: `python -I -S service/child/__main__.py CONTROL_FD LIMITS`.

Who runs it: `service.executors.forkserver`, with any CPython from 3.9 on. `-I -S` keep the user's environment and
site-packages out, so the package `service` is built here by hand: it has a path, and nothing above it is importable.
"""

import json
import os
import sys
import types


def _main() -> None:
    package = types.ModuleType("service")
    package.__path__ = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
    sys.modules["service"] = package
    from service.child import server  # noqa: PLC0415  the package exists only from this line on

    server.serve(int(sys.argv[1]), json.loads(sys.argv[2]))


if __name__ == "__main__":
    _main()
