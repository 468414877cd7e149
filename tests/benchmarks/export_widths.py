"""What a width costs in onnxruntime: one network at chosen widths, beside the dense one.

    python tests/benchmarks/export_widths.py search_spaces/digits_resnet8.yaml layer3.0.conv1=24 layer3.0.conv1=26

Each argument is a candidate: ``GROUP=WIDTH,GROUP=WIDTH``, the other groups full. Weights are random. Processor time of
one thread; the speed-up is the median over rounds that time both, with its quartiles.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from autoprune.api.export_bench_networks import measure, networks_of_trial
from autoprune.config.loading import load_space
from autoprune.driver.assemble import make_space


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("space", help="a search space file")
    parser.add_argument("candidates", nargs="+")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--out", type=Path, help="a JSON file")
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    config = load_space(arguments.space)
    space = make_space(config)
    results = []
    for text in arguments.candidates:
        widths = {name: int(width) for name, width in (part.split("=") for part in text.split(","))}
        candidate = space.nearest(widths)
        networks = networks_of_trial(text, config, candidate)
        found = measure(networks, batch=arguments.batch, threads=1, warmup=10, repeats=arguments.repeats)
        results.append({**found.to_dict(), "widths": dict(candidate.widths)})
        share = 100 * found.macs["pruned"] / found.macs["dense"]
        quartiles = f"{found.speedup_low:.2f} to {found.speedup_high:.2f}"
        print(
            f"{text}, batch {arguments.batch}: {share:.1f} % of the MACs, {found.speedup:.2f} ({quartiles})", flush=True
        )
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
