"""All benchmarks, one after the other: `make bench`."""

import argparse
import subprocess
import sys

from benchmarks.common import add_options

NAMES = ("encode", "distill", "finetune", "sts", "transfer", "extract", "startup", "scaling", "peak", "first_token")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser, out=False)
    parser.parse_args()  # each program gets them as they are
    failed = []
    for name in NAMES:
        # a process each, so that none inherits another's memory or threads
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *sys.argv[1:]], check=False).returncode:
            failed.append(name)
    subprocess.run([sys.executable, "-m", "benchmarks.tables"], check=True)
    if failed:
        raise SystemExit(f"not finished: {', '.join(failed)}")


if __name__ == "__main__":
    main()
