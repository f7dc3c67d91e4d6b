"""From a weights file to a network and its settings, for tools that run outside a study's DAG."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vosrepro.base.errors import CheckpointError, ConfigError, pick
from vosrepro.study import paths
from vosrepro.study.params import MethodSize, load_method
from vosrepro.study.plan import Run, load_plan, variant_settings
from vosrepro.weights.files import read_facts


@dataclass(frozen=True)
class Setup:
    """How a method is run.

    Attributes:
        model: constructor arguments of the network.
        variant: name of the inference settings.
        settings: arguments of the segmenter.
        input_short_side_px: at which the size of the method runs; None if it does not say.
        origin: where the facts come from, for records.
    """

    method: str
    weights: Path | None
    model: Mapping[str, Any]
    variant: str
    settings: Mapping[str, Any]
    input_short_side_px: int | None
    origin: str


def find_setup(
    method: str,
    weights: Path | None,
    *,
    variant: str | None = None,
    size: str | None = None,
    recipe: str | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Setup:
    """What a weights file needs to run.

    Weights below results/<study>/ are described by their study, imported ones by themselves; any others by
    `size` and `recipe` of params/methods/<method>.yaml.

    Args:
        method: its name.
        weights: a safetensors file, or None for a method without weights.
        variant: inference settings by name; None for the method's default.
        size: "full", "mini", ...
        recipe: of that size.
        changes: single settings that replace the variant's.

    Raises:
        CheckpointError: if the weights are missing, are an upstream file, or belong to another method.
        ConfigError: if their network is not known, or a name is wrong.
    """
    params = load_method(method)
    if weights is None:
        size = size or next(iter(params.sizes))
        model, origin = _without_weights(method, size, recipe)
    elif size is not None and recipe is not None:
        model, origin = _of_recipe(method, size, recipe), f"{size}/{recipe}"
    else:
        model, size, origin = _described(method, weights, size)
    chosen: MethodSize = pick(params.sizes, size, what="size", where=f"method '{method}'")
    name = variant or params.default_variant
    settings = {**variant_settings(params, chosen, name), **(changes or {})}
    return Setup(method, weights, model, name, settings, chosen.input_short_side_px, origin)


def _without_weights(method: str, size: str, recipe: str | None) -> tuple[Mapping[str, Any], str]:
    from vosrepro.methods import get_method

    if get_method(method).build is not None:
        trained = paths.run_folder("mini", method, "RECIPE", 0)
        raise ConfigError(
            f"method '{method}' needs weights: give --weights, for instance "
            f"{trained / paths.SELECTED_WEIGHTS} or {paths.imported_weights(method, 'RECIPE')}"
        )
    return {}, f"{size}/{recipe or 'none'}"


def _of_recipe(method: str, size: str, recipe: str) -> Mapping[str, Any]:
    params = load_method(method)
    chosen = pick(params.sizes, size, what="size", where=f"method '{method}'")
    found = pick(chosen.recipes, recipe, what="recipe", where=f"{method}, size '{size}'")
    return chosen.model_of(found)


def _described(method: str, weights: Path, size: str | None) -> tuple[Mapping[str, Any], str, str]:
    """Network, size and origin, from what the file says of itself and from the study that made it."""
    facts = _facts(weights)
    found = _run_of(weights)
    stated = facts.get("method") or (found[0].method if found else method)
    if stated != method:
        raise CheckpointError(f"{weights} holds weights of '{stated}', not of '{method}': give --method {stated}")
    model, size = facts.get("model"), size or facts.get("size") or (found[1] if found else None)
    if model is None and found is not None:  # written before files said it themselves
        stages = found[0].stages
        inside = next((n for n in stages if n.stage in weights.resolve().parts[-3:]), None)
        model = inside.model if inside else found[0].model
    if model is None or size is None:
        raise ConfigError(
            f"how {weights} is run is not known, since it lies outside results/<study>/: give --size and "
            f"--recipe of params/methods/{method}.yaml"
        )
    return model, size, found[0].key if found else str(facts.get("recipe", weights.stem))


def _run_of(weights: Path) -> tuple[Run, str] | None:
    """The run of a study whose folder the file lies in, and the study's size."""
    for root, study, method, recipe, seed in paths.runs_that_hold(weights):
        resolved = root / paths.resolved_study(study)
        path = resolved if resolved.is_file() else root / "params/studies" / f"{study}.yaml"
        if path.is_file():
            plan = load_plan(path, root=root / "params")
            return plan.run(method, recipe, seed), plan.study.size
    return None


def _facts(weights: Path) -> dict[str, Any]:
    """What the file says of itself; empty if nothing."""
    if not weights.is_file():
        raise CheckpointError(
            f"there are no weights {weights}: train them (snakemake) or import released ones (vosrepro weights import)"
        )
    if weights.suffix != ".safetensors":
        raise CheckpointError(
            f"{weights} is not a safetensors file: if it is a released checkpoint, run `vosrepro weights "
            "import METHOD FILE` first"
        )
    return read_facts(weights)
