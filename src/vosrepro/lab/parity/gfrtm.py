"""G-FRTM on key-seeded weights against recorded outputs of the original code; see `vosrepro.lab.parity.frtm`.

The gate asks once per frame and object that began before: an evaluation. Series of a scene count evaluations, series
of an object the frames on which it was computed, its start first where a score is recorded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from vosrepro.lab.parity.family import EACH, Family, RecordedScene, scene
from vosrepro.lab.parity.frtm import family_rules, merge_rules
from vosrepro.lab.parity.rules import CELLS, RELATIVE, Groups, Lacks, Measure, Recording, Rule, inputs
from vosrepro.methods.frtm.refiner import ORDER
from vosrepro.methods.gfrtm.model import GFRTM, Gate
from vosrepro.methods.gfrtm.segmenter import GFRTMSegmenter

_DEEP, _FINE = ORDER[:2], ORDER[2:]
_FREE_GATE = 5e-3
_TIGHT = {"float64": 1e-5, "float32": 5e-5}
_GATE = {"float64": 1e-5, "float32": 5e-5}


class GatedScene(RecordedScene):
    """A scene in whose series an entry is an evaluation of the gate."""

    @property
    def evaluations(self) -> list[tuple[int, int]]:
        """(frame, object), in their order."""
        return [(t, n) for t in range(self.length) for n in self.before(t)]

    @property
    def tau(self) -> float:
        """The gate's threshold: the scene's own, 1 for "t1", or the one of all."""
        own = f"{self.name}.tau"
        if own in self.r:
            return float(self.r[own])
        return 1.0 if self.name == "t1" else self.r.number("tau")

    def reused(self, t: int, number: int) -> bool:
        """Whether an object was reused on a frame, as recorded.

        Raises:
            Lacks: if the gate's decision there is not recorded.
        """
        gate, index = self.r[f"{self.name}.gate"], self.evaluations.index((t, number))
        if index >= len(gate):
            raise Lacks(f"entry {index} of {self.name}.gate")
        return bool(gate[index] == 1)

    def computed(self, number: int) -> list[int]:
        """See `RecordedScene.computed`."""
        known = len(self.r[f"{self.name}.gate"])
        times = [t for t, n in self.evaluations[:known] if n == number]
        return [t for t in times if not self.reused(t, number)]

    def probability(self, number: int, t: int) -> torch.Tensor | None:
        """See `RecordedScene.probability`."""
        logits, index = self.r[f"{self.name}.logit"], self.evaluations.index((t, number))
        return torch.from_numpy(np.array(logits[index])).double().sigmoid() if index < len(logits) else None

    def score_before(self, t: int, number: int, dtype: str) -> torch.Tensor:
        """(1, 1, h, w): the last computed score before a frame; the given mask at the start."""
        times = [s for s in self.computed(number) if s < t]
        if times:
            return self._score(number, len(times), dtype)
        like = self.features(t, dtype)["layer4"]
        mask = torch.from_numpy(self.mask(number))[None, None].to(like)
        return F.interpolate(mask, like.shape[-2:], mode="nearest")

    def _score(self, number: int, index: int, dtype: str) -> torch.Tensor:
        series = self.r[f"{self.name}.o{number}.score"]
        if index >= len(series):
            raise Lacks(f"row {index} of {self.name}.o{number}.score")
        return torch.from_numpy(np.array(series[index]))[None, None].to(getattr(torch, dtype))

    def template(self, number: int, dtype: str) -> torch.Tensor:
        """(1, d, d) from the frame on which the object begins."""
        layer = self.features(self.starts[number], dtype)["layer3"]
        mask = torch.from_numpy(self.mask(number))[None, None].to(layer)
        with torch.no_grad():
            return self.network(dtype).template(layer, F.interpolate(mask, layer.shape[-2:], mode="nearest"))

    def gate(self, t: int, number: int, dtype: str) -> Gate:
        """What our gate says, from the last recorded score before."""

        def make() -> Gate:
            with torch.no_grad():
                layer = self.features(t, dtype)["layer3"]
                scores = self.score_before(t, number, dtype)
                return self.network(dtype).gate(layer, scores, self.template(number, dtype))

        return self.r.once(("gate", self.name, t, number, dtype), make)

    def deep(self, number: int, before: int, dtype: str) -> torch.Tensor:
        """(1, channels, h, w): deep levels on the last computed frame before one, from its recorded score."""
        times = [s for s in self.computed(number) if s < before]
        t = times[-1] if times else self.starts[number]
        score = self._score(number, len(times), dtype)
        with torch.no_grad():
            return self.network(dtype).refiner.levels(_DEEP, self.features(t, dtype), [score], None)


def _segmenter(net: Any, found: RecordedScene, options: dict[str, Any]) -> GFRTMSegmenter:
    assert isinstance(found, GatedScene)
    return GFRTMSegmenter(net, tau=found.tau, fast=False, record_gate=True, **options)


FAMILY = Family(build=lambda _, backbone: GFRTM(backbone=backbone), segmenter=_segmenter, tracked=1, scene=GatedScene)
_SCENE = r"(?P<scene>(?!f32\b|feat\d)\w+)"


def _scene(r: Recording, g: Groups) -> GatedScene:
    found = scene(r, g["scene"], FAMILY)
    assert isinstance(found, GatedScene)
    return found


def _per_object(make: Any) -> Any:
    """All objects, by number."""
    return lambda r, g: torch.cat([make(_scene(r, g), n, g["dtype"]) for n in sorted(_scene(r, g).objects)])


def _per_evaluation(make: Any) -> Any:
    """As many evaluations as are recorded."""

    def series(r: Recording, g: Groups) -> np.ndarray:
        found = _scene(r, g)
        theirs = r[f"{g['scene']}.{g['what']}"]
        made = [make(found, t, n, g["dtype"]) for t, n in found.evaluations[: len(theirs)]]
        return np.stack([m.detach().double().numpy() for m in made]) if made else np.zeros(theirs.shape)

    return series


def _used(found: GatedScene, t: int, number: int, dtype: str) -> torch.Tensor:
    """The score given to the refiner: the computed one, or the last one and the change."""
    if not found.reused(t, number):
        return found._score(number, 1 + found.computed(number).index(t), dtype)[0, 0]
    change = found.network(dtype).Convert_Diff(_match(found, t, number, dtype))
    return (found.score_before(t, number, dtype) + change)[0, 0]


def _match(found: GatedScene, t: int, number: int, dtype: str) -> torch.Tensor:
    """(1, d, h, w) as recorded, or ours where it is not."""
    name, index = f"{found.name}.match", found.evaluations.index((t, number))
    if name in found.r and index < len(found.r[name]):
        return torch.from_numpy(np.array(found.r[name][index]))[None].to(getattr(torch, dtype))
    return found.gate(t, number, dtype).match


def _logit(found: GatedScene, t: int, number: int, dtype: str) -> torch.Tensor:
    net, name = found.network(dtype), f"{found.name}.score_used"
    index, feats = found.evaluations.index((t, number)), found.features(t, dtype)
    if name in found.r and index < len(found.r[name]):
        score = torch.from_numpy(np.array(found.r[name][index]))[None, None].to(feats["layer2"])
    else:
        score = _used(found, t, number, dtype)[None, None]
    if found.reused(t, number):
        change = net.Convert_Diff(_match(found, t, number, dtype))
        x = net.refiner.Diff_process(found.deep(number, t, dtype), change)
    else:
        x = net.refiner.levels(_DEEP, feats, [score], None)
    x = net.refiner.levels(_FINE, feats, [score], x)
    return net.refiner.project(x, found.images.shape[-2:])[0, 0]


def _changes(r: Recording, g: Groups) -> np.ndarray:
    """Score changes of the reused evaluations."""
    found, like = _scene(r, g), r[f"{g['scene']}.diff"]
    net = found.network(g["dtype"])
    known = len(r[f"{g['scene']}.gate"])
    reused = [(t, n) for t, n in found.evaluations[:known] if found.reused(t, n)]
    made = [net.Convert_Diff(_match(found, t, n, g["dtype"]))[0, 0].detach().double().numpy() for t, n in reused]
    return np.stack(made) if made else np.zeros((0, *like.shape[1:]))


def _scores(r: Recording, g: Groups) -> np.ndarray:
    """Scores of the start and of the computed frames, each from the recorded filter before it."""
    found, number = _scene(r, g), int(g["number"])
    times = [found.starts[number], *found.computed(number)]
    ours = []
    for index, t in enumerate(times[: len(r[f"{g['scene']}.o{number}.score"])]):
        models = found.loaded(number, "layer4", max(0, index - 1), g["dtype"])
        ours.append(models.score(found.features(t, g["dtype"])["layer4"])[0, 0].detach().double().numpy())
    return np.stack(ours)


def _free_gate(r: Recording, g: Groups) -> torch.Tensor:
    segmenter, _ = _scene(r, g).run(g["dtype"])
    found = [gate.probabilities for gate in segmenter.gates]
    return torch.cat(found) if found else torch.zeros(0, 2)


def _free_decisions(r: Recording, g: Groups) -> np.ndarray:
    segmenter, _ = _scene(r, g).run(g["dtype"])
    return np.array([float(reused) for frame in segmenter.reused for reused in frame])


def _decision(found: GatedScene, t: int, number: int, dtype: str) -> torch.Tensor:
    return (found.gate(t, number, dtype).probabilities[0, 0] > found.tau).double()


_DECISIONS = Measure("wrong decisions", CELLS.error)
_AT = rf"{_SCENE}\."
RULES: tuple[Rule, ...] = (
    *inputs(r"(\w+\.)?tau"),
    Rule(rf"{_AT}frame", lambda r, g: [t for t, _ in _scene(r, g).evaluations], 0, CELLS, series=True),
    Rule(rf"{_AT}template", _per_object(lambda s, n, d: s.template(n, d)), _GATE | {"float32": 1e-5}, EACH),
    Rule(
        rf"{_AT}prevx_init",
        _per_object(lambda s, n, d: s.deep(n, s.starts[n], d)),
        _TIGHT,
        EACH,
        "{array} from recorded scores",
    ),
    Rule(
        rf"{_AT}(?P<what>match)",
        _per_evaluation(lambda s, t, n, d: s.gate(t, n, d).match[0]),
        _GATE,
        EACH,
        "{array} from recorded scores",
    ),
    Rule(
        rf"{_AT}(?P<what>gate_logits)",
        _per_evaluation(lambda s, t, n, d: s.gate(t, n, d).logits[0]),
        _GATE,
        EACH,
        "{array} from recorded scores",
    ),
    Rule(
        rf"{_AT}(?P<what>gate_prob)",
        _per_evaluation(lambda s, t, n, d: s.gate(t, n, d).probabilities[0]),
        _GATE,
        title="{array} from recorded scores",
    ),
    Rule(
        rf"{_AT}(?P<what>gate)",
        _per_evaluation(_decision),
        {"float64": 0, "float32": 0},
        _DECISIONS,
        "{array} from recorded scores",
    ),
    Rule(rf"{_AT}diff", _changes, {"float64": 1e-5, "float32": 1e-4}, RELATIVE, "{array} from matches"),
    Rule(rf"{_AT}(?P<what>score_used)", _per_evaluation(_used), _TIGHT, EACH, "{array} from recorded scores"),
    Rule(
        rf"{_AT}o(?P<number>\d+)\.score",
        _scores,
        {"float64": 5e-6, "float32": 2e-5},
        EACH,
        "{array} from recorded filters",
    ),
    Rule(rf"{_AT}(?P<what>logit)", _per_evaluation(_logit), _TIGHT, EACH, "{array} from used scores"),
    *merge_rules(FAMILY, _SCENE),
    *(rule for rule in family_rules(FAMILY, _SCENE) if not rule.pattern.endswith("score")),
    Rule(rf"{_AT}gate_prob", _free_gate, {"float64": _FREE_GATE, "float32": _FREE_GATE}, late=True, series=True),
    Rule(rf"{_AT}gate", _free_decisions, {"float64": 0, "float32": 0}, _DECISIONS, late=True, series=True),
)
