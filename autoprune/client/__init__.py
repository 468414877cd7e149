"""``autoprune.Client``: the library's verbs against a server of ``autoprune serve``.

here = autoprune.Client("http://127.0.0.1:8642", token="...")
here.search("launch/quickstart.yaml")
best = here.select("digits-quickstart", where=["macs <= 0.5 * baseline"])
here.export("digits-quickstart", best.trial.number, "model/")
"""

from autoprune.client.client import Client

__all__ = ["Client"]
