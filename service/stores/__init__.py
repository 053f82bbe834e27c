"""How jobs are remembered; one file is one way. `open_store` picks by the URL's scheme."""

from service.errors import StoreUnavailable
from service.stores.base import JobStore
from service.stores.memory import MemoryStore
from service.stores.sql import SqlStore

__all__ = ["open_store"]


def open_store(url: str) -> JobStore:
    """Return the store for a database URL, opened.

    Args:
        url: `sqlite:///relative/path.db`, `sqlite:////absolute/path.db`, or `memory:`.

    Raises:
        StoreUnavailable: no store knows the scheme, or the database cannot be used.
    """
    store: JobStore
    match url.partition(":")[0]:
        case "sqlite":
            store = SqlStore(url)
        case "memory":
            store = MemoryStore()
        case scheme:
            raise StoreUnavailable(
                f"No store knows {scheme!r}: use sqlite:///threadlab.db, or memory: to keep nothing."
            )
    store.open()
    return store
