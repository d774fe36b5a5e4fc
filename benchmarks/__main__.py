"""All benchmarks, one after the other: `make bench`."""

import subprocess
import sys

NAMES = ("encode", "distill", "finetune", "sts", "transfer", "extract", "startup", "scaling", "peak", "tables")

for name in NAMES:
    # a process each, so that none inherits another's memory or threads
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *sys.argv[1:]], check=True)
