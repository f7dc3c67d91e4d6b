"""Finished target models on disk, so that later epochs do not optimize them again.

An entry's name is a digest of everything that made it: the start frame, the mask, the backbone's weights,
the number of views and every setting of the optimizer. A cache of another configuration is therefore never
hit, and one folder may serve all of them.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import weakref
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import numpy as np

    from vosrepro.methods.frtm.backbone import Backbone
    from vosrepro.methods.frtm.target import TargetSettings

    #: project.weight and filter.weight of each level.
    Entry = dict[str, tuple[torch.Tensor, torch.Tensor]]

log = logging.getLogger(__name__)
#: Raised when the arithmetic changes in a way that entries must be made anew.
_REVISION = 1
_DIGESTS: weakref.WeakKeyDictionary[Backbone, str] = weakref.WeakKeyDictionary()


class TargetCache:
    """Entries of one configuration in a folder.

    Args:
        folder: where entries of all configurations lie; is made if missing.
        backbone: whose features the models are for.
        views: of the start frame.
        settings: of the optimizer.
    """

    def __init__(self, folder: str | Path, backbone: Backbone, views: int, settings: TargetSettings) -> None:
        made = repr((_REVISION, backbone_digest(backbone), views, sorted(asdict(settings).items())))
        self._configuration = made.encode()
        self._folder = Path(folder)

    def path(self, frame: np.ndarray, mask: np.ndarray) -> Path:
        """File of the entry for a start frame uint8 (H, W, 3) and its mask uint8 (H, W)."""
        digest = hashlib.sha256(self._configuration)
        digest.update(repr((frame.shape, mask.shape)).encode())
        digest.update(frame.tobytes())
        digest.update(mask.tobytes())
        name = digest.hexdigest()
        return self._folder / name[:2] / f"{name[:32]}.safetensors"

    def read(self, frame: np.ndarray, mask: np.ndarray) -> Entry | None:
        """The entry, or None if there is none; a damaged one is removed with a warning."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.path(frame, mask)
        try:
            tensors = load_file(path)
            levels = sorted({key.partition(".")[0] for key in tensors})
            return {level: (tensors[f"{level}.project.weight"], tensors[f"{level}.filter.weight"]) for level in levels}
        except FileNotFoundError:
            return None
        except (SafetensorError, KeyError, OSError) as error:
            log.warning("the target-model cache entry %s is damaged (%s): it is made anew", path, error)
            path.unlink(missing_ok=True)
            return None

    def write(self, frame: np.ndarray, mask: np.ndarray, entry: Entry) -> None:
        """Store an entry atomically; several processes may write the same one."""
        from safetensors.torch import save_file

        path = self.path(frame, mask)
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {}
        for level, (project, kernel) in entry.items():
            tensors[f"{level}.project.weight"] = project.detach().cpu().contiguous().clone()
            tensors[f"{level}.filter.weight"] = kernel.detach().cpu().contiguous().clone()
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        os.close(handle)
        try:
            save_file(tensors, temporary)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def backbone_digest(backbone: Backbone) -> str:
    """SHA-256 of a frozen backbone's weights; computed once per network object."""
    if backbone not in _DIGESTS:
        digest = hashlib.sha256()
        for key, value in sorted(backbone.state_dict().items()):
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        _DIGESTS[backbone] = digest.hexdigest()
    return _DIGESTS[backbone]
