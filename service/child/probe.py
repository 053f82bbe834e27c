"""Tell about the interpreter that runs this file: `python -I -S service/child/probe.py` prints one line of JSON.

Who runs it: `service.executors.interpreters`, with everything that looks like a Python 3, so it keeps to a syntax that
older ones read, too: then they can say that they are too old.
"""

import json
import sys
import sysconfig
from typing import Any, Dict


def _free_threaded() -> bool:
    return bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def _gil() -> bool:
    return sys._is_gil_enabled() if hasattr(sys, "_is_gil_enabled") else True


def _subinterpreters() -> bool:
    """Whether programs can make interpreters with a GIL of their own: PEP 684, as 3.13 and PEP 734 (3.14) offer it."""
    name = "concurrent.interpreters" if sys.version_info >= (3, 14) else "_interpreters"
    try:
        __import__(name)
    except ImportError:
        return False
    return True


def _build() -> Dict[str, Any]:
    words = sysconfig.get_config_var("CONFIG_ARGS") or ""
    flags = " ".join(str(sysconfig.get_config_var(name) or "") for name in ("PY_CFLAGS", "OPT", "PY_CORE_LDFLAGS"))
    jit = getattr(sys, "_jit", None)
    return {
        "compiler": sys.version.replace("\n", " ").partition("[")[2].rstrip("]"),
        "debug": hasattr(sys, "gettotalrefcount"),
        "optimized": "--enable-optimizations" in words or "-fprofile-use" in flags,
        "lto": "--with-lto" in words or "-flto" in flags,
        "jit": bool(jit is not None and jit.is_available()),
    }


def _main() -> None:
    sys.stdout.write(
        json.dumps(
            {
                "implementation": sys.implementation.name,
                "version": sys.version.split()[0],
                "build_id": sys.version,
                "executable": sys.executable,
                "free_threaded": _free_threaded(),
                "gil": _gil(),
                "switch_interval_s": sys.getswitchinterval(),
                "subinterpreters": _subinterpreters(),
                "build": _build(),
            }
        )
    )


if __name__ == "__main__":
    _main()
