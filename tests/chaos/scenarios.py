"""What befalls a cloud, its database and its engines: all the scenarios."""

# Each tells its own, and enters them in the list.
import on_galera
import on_postgres
import on_sqlite
import rewinds
import upgrades
from tell import ALL, missing

__all__ = ["ALL", "missing", "on_galera", "on_postgres", "on_sqlite", "rewinds", "upgrades"]
