"""`python -m tests.download.instant …`: `distilcse …`, in a process of its own, without waiting between retries.

With `FORBID_NETWORK=1` the process ends with code 99 as soon as anything asks for an address,
connects, or starts another process. With `FILE_LIMIT=N` no file grows beyond N bytes, as on a full disk.
"""

import os
import resource
import sys

from distilcse_cli.__main__ import main
from distilcse_cli.catalogue import refusals

NETWORK_EVENTS = {"socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname", "subprocess.Popen"}
CAUGHT = 99


def _forbid_network(event: str, arguments: tuple[object, ...]) -> None:
    if event in NETWORK_EVENTS:
        print(f"network: {event} {arguments}", file=sys.stderr, flush=True)
        os._exit(CAUGHT)


def forbid_network() -> None:
    """From now on, end this process with `CAUGHT` when it reaches for the network."""
    sys.addaudithook(_forbid_network)


if __name__ == "__main__":
    if os.environ.get("FORBID_NETWORK") == "1":
        forbid_network()
    if limit := int(os.environ.get("FILE_LIMIT", "0")):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    refusals.PATIENCE = refusals.Patience(first_delay=0.0)
    if sys.argv[1] == "resolve":
        from distilcse_cli.models.reference import resolve_reference

        print(resolve_reference(sys.argv[2]))
        sys.exit(0)
    main()
