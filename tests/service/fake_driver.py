"""What a worker starts instead of a driver: ``fake_driver.py LAUNCH --store URL`` does what the search's name says.

It imports nothing of autoprune, so that it starts in no time.
"""

import signal
import sqlite3
import sys
import time
from pathlib import Path


def main() -> None:
    number, file = sys.argv[1], Path(sys.argv[3].removeprefix("sqlite:///"))
    store = sqlite3.connect(file, timeout=30)
    name = store.execute("SELECT search FROM launches WHERE id = ?", [number]).fetchone()[0]
    print(f"driving {name}", flush=True)
    runs = file.with_name(f"runs-{number}")
    with runs.open("a") as log:
        log.write("once\n")
    if name.startswith("fails"):
        print("error: the data are not there.\nhint: put them there.")
        sys.exit(2)
    if name.startswith("dies") or (name.startswith("recovers") and len(runs.read_text().splitlines()) == 1):
        signal.raise_signal(signal.SIGKILL)
    if name.startswith("waits"):
        signal.signal(signal.SIGINT, lambda number, frame: sys.exit(130))
        while not file.with_name("go").exists():
            time.sleep(0.02)
    store.execute(
        "INSERT INTO searches (name, digest, evaluation_digest, config, baseline, channels, state, created_at,"
        " updated_at, epoch, claimed_at, renewed_at, lease_until, active_seconds)"
        " SELECT ?, digest, 'e', config, '{}', '{}', 'complete', 1, 1, 0, 0, 0, 0, 0 FROM searches LIMIT 1",
        [name],
    )
    store.commit()


if __name__ == "__main__":
    main()
