"""Training of MTMFI: FRTM's step with two target models per sample.

Upstream publishes no hyper-parameters and no training script; FRTM's are the default, which is a guess.
"""

from vosrepro.methods.frtm.train import train_step

__all__ = ["train_step"]
