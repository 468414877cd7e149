"""The record of every search: one SQL database that a killed driver, a second driver and a query can share.

    store = open_store("sqlite:///results/autoprune.db")  # or postgresql://user:password@host/database
    lease = store.claim("quickstart", owner=new_owner(), ttl_seconds=60)

Only the holder of a search's lease writes its trials; reading needs no lease.
"""

from autoprune.store.columns import MetricColumns
from autoprune.store.connect import open_store
from autoprune.store.history import History
from autoprune.store.leases import Lease, new_owner
from autoprune.store.retrainings import Retraining
from autoprune.store.store import Store

__all__ = ["History", "Lease", "MetricColumns", "Retraining", "Store", "new_owner", "open_store"]
