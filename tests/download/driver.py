"""Runs `distilcse` again and again in one process whose hub client talks to the fake hub.

The client reads `HF_ENDPOINT` when it is imported, and importing it takes longer than a small
download: so one process serves all tests of a session. It reads a job a line from stdin, as JSON,
and answers with a line. It waits between retries no time at all; everything else is as installed.

A job is `{"argv": …, "environment": …}`, or `{"resolve": reference, "environment": …}`; with
`"fork": true` it is answered by a child's id at once, which can be killed, and `{"wait": id}` by
how that child ended; with `"kill_at": N` it dies right before it touches the disk for the Nth time.
With `"forbid": true` a child that has torch and transformers loaded, but not datasets, does the job and
ends with code 99 when it reaches for the network.
"""

import importlib
import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from huggingface_hub import constants  # reads its settings now, from the environment of this process

from distilcse_cli import __main__, console
from distilcse_cli.catalogue import refusals
from distilcse_cli.errors import DistilCSEError
from distilcse_cli.models.reference import resolve_reference
from tests.download.instant import forbid_network
from tests.training.processes import FileEvents

refusals.PATIENCE = refusals.Patience(first_delay=0.0)
_ENVIRONMENT = dict(os.environ)


def run(job: dict[str, Any]) -> dict[str, Any]:
    os.environ.clear()
    os.environ.update(_ENVIRONMENT | job["environment"])
    constants.HF_HUB_DOWNLOAD_TIMEOUT = float(os.environ.get("HF_HUB_DOWNLOAD_TIMEOUT", "60"))
    constants.HF_HUB_OFFLINE = os.environ.get("HF_HUB_OFFLINE") == "1"
    constants.HF_HUB_DISABLE_XET = os.environ.get("HF_HUB_DISABLE_XET") == "1"
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        if "resolve" in job:
            code = resolve(job["resolve"], job["revision"])
        else:
            sys.argv = ["distilcse", *job["argv"]]
            code = __main__.run()
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}


def resolve(ref: str, revision: str | None) -> int:
    try:
        console.result(str(resolve_reference(ref, revision=revision)))
    except DistilCSEError as error:
        console.error(error)
        return error.exit_code
    return 0


def run_forbidden(job: dict[str, Any]) -> dict[str, Any]:
    for module in ("torch", "transformers.models.auto", "transformers.models.bert.modeling_bert"):
        importlib.import_module(module)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        forbid_network()
        os.write(writer, json.dumps(run(job)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return json.loads(said) if said else {"code": code, "out": "", "err": ""}


def serve() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    for line in sys.stdin:
        job = json.loads(line)
        if "wait" in job:
            answer: dict[str, Any] = {"status": os.waitpid(job["wait"], 0)[1]}
        elif job.get("forbid"):
            answer = run_forbidden(job)
        elif job.get("fork"):
            pid = os.fork()
            if pid == 0:
                FileEvents(job.get("kill_at"))
                code = run(job)["code"]
                os._exit(code)
            answer = {"pid": pid}
        else:
            answer = run(job)
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    serve()
