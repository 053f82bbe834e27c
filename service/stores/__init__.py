"""How jobs are remembered; one file is one way. `make_store` picks by the URL's scheme."""

from service.errors import StoreUnavailable
from service.observer import Observer, nobody
from service.stores.base import Store
from service.stores.memory import MemoryStore
from service.stores.sql import SqlStore

__all__ = ["make_store"]


def make_store(url: str, observe: Observer = nobody) -> Store:
    """Return the store for a database URL, not opened.

    Args:
        url: `sqlite:///relative/path.db`, `sqlite:////absolute/path.db`, or `memory:`.
        observe: hears of commits and reads, where there is a database.

    Raises:
        StoreUnavailable: no store knows the scheme.
    """
    match url.partition(":")[0]:
        case "sqlite":
            return SqlStore(url, observe)
        case "memory":
            return MemoryStore()
        case scheme:
            raise StoreUnavailable(
                f"No store knows {scheme!r}: use sqlite:///threadlab.db, or memory: to keep nothing."
            )
