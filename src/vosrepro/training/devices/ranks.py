"""torchrun without its traceback: `python -m vosrepro.training.devices.ranks <torchrun's arguments>`.

The parent of several ranks. When a rank fails it has already said why in one sentence; torchrun's own
report of some forty lines would bury it, so this program only repeats the rank's exit status.
"""

from __future__ import annotations

import logging
import sys


def main() -> int:
    """Start the ranks and wait; the first failed rank's exit status."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        torchrun(sys.argv[1:])
    except ChildFailedError as error:
        status = error.get_first_failure()[1].exitcode
        return status if status > 0 else 128 - status
    except SignalException as error:
        return 128 + int(error.sigval)
    return 0


if __name__ == "__main__":
    sys.exit(main())
