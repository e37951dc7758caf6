"""A run of a batch with the fixed kernel in a process of its own, which tests kill: MANIFEST OUT [option=value …]."""

import sys

from changedet.batch.run import run_batch
from changedet.errors import ChangeDetError, exit_code
from tests.batch.kernel import MEMORY, kernel_method


def main(manifest: str, out: str, *options: str) -> int:
    given = dict(option.split("=", 1) for option in options)
    try:
        return run_batch(manifest, out, method_of=kernel_method, max_memory=MEMORY, **given).failed
    except ChangeDetError as error:
        sys.stderr.write(f"{error}\n")
        return exit_code(error)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
