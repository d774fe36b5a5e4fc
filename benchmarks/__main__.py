"""All benchmarks, one after the other: `make bench`."""

import subprocess
import sys

from benchmarks.common import new_parser

NAMES = ("encode", "distill", "finetune", "sts", "transfer", "extract")


def main() -> None:
    if new_parser(__doc__).parse_args().out:  # the other options go to each program as they are
        raise SystemExit("--out is for one benchmark: python -m benchmarks.NAME --out FILE")
    failed = []
    for name in NAMES:
        # in separate processes, so that none inherits another's memory or threads
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *sys.argv[1:]], check=False).returncode:
            failed.append(name)
    subprocess.run([sys.executable, "-m", "benchmarks.tables"], check=True)
    if failed:
        raise SystemExit(f"not finished: {', '.join(failed)}")


if __name__ == "__main__":
    main()
