"""Which sample comes when: every sample of a stage is a pure function of (seed, stage, step, index).

Nothing is drawn from a running generator, so neither the number of processes, nor the number of loader
workers, nor an interruption changes what the network sees.
"""

from __future__ import annotations

import zlib
from functools import lru_cache

import numpy as np

_ORDER, _SAMPLE, _STEP, _BUILD = range(4)


def sample_generator(seed: int, stage: str, step: int, index: int) -> np.random.Generator:
    """The generator of sample `index` of the global batch of `step`."""
    return np.random.Generator(np.random.PCG64([_SAMPLE, seed, _word(stage), step, index]))


def step_seed(seed: int, stage: str, step: int) -> int:
    """Seed of torch's own generator during a step (dropout and the like)."""
    return int(np.random.SeedSequence([_STEP, seed, _word(stage), step]).generate_state(1)[0])


def build_seed(seed: int, stage: str) -> int:
    """Seed of torch's own generator while the network is built and weights are transferred."""
    return int(np.random.SeedSequence([_BUILD, seed, _word(stage)]).generate_state(1)[0])


def item_of(seed: int, stage: str, *, number: int, items: int) -> int:
    """Item of a list of `items` that the `number`-th sample of the stage shows.

    The list is walked through in a new random order each time, so that every item is seen once before
    any is seen again (as a distributed sampler does, but without dropping the last ones).
    """
    epoch, position = divmod(number, items)
    return int(_permutation(seed, _word(stage), epoch, items)[position])


@lru_cache(maxsize=4)
def _permutation(seed: int, stage: int, epoch: int, items: int) -> np.ndarray:
    generator = np.random.Generator(np.random.PCG64([_ORDER, seed, stage, epoch]))
    return generator.permutation(items)


def _word(text: str) -> int:
    return zlib.crc32(text.encode())
