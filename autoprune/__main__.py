"""``python -m autoprune`` is the ``autoprune`` command."""

from __future__ import annotations

from autoprune.cli.main import main

if __name__ == "__main__":
    main()
