"""A released checkpoint as our weights: read without running it, converted strictly, loaded once, recorded."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from vosrepro.base.errors import CheckpointError, ConfigError, DataError, pick
from vosrepro.base.files import file_digest
from vosrepro.base.types import without_start_weights
from vosrepro.methods import get_method
from vosrepro.methods.common.checkpoints import full_precision, read_checkpoint, unwrapped
from vosrepro.study.params import RecipeParams, load_method
from vosrepro.study.paths import imported_weights
from vosrepro.study.records import ImportedTensors, ImportRecord, Provenance, ReleasedSource
from vosrepro.weights.files import build_model, load_strictly, save_weights
from vosrepro.weights.released import how_to_get_checkpoint, load_released, released_file

log = logging.getLogger(__name__)
_SHOWN = 20


def import_weights(
    method: str,
    file: Path | None,
    *,
    recipe: str | None = None,
    size: str = "full",
    out: Path | None = None,
) -> ImportRecord:
    """Convert a released checkpoint and write weights and record side by side.

    Args:
        method: whose checkpoint it is.
        file: the released file; None looks at weights/<method>/<recipe>.pth and the like.
        recipe: an imported recipe of the method; None finds the one whose network fits.
        size: of params/methods/<method>.yaml.
        out: safetensors file to write; None: where the study `released` looks for it.

    Returns:
        The record.

    Raises:
        DataError: if the file lacks, saying where to download it and where to put it.
        CheckpointError: if it cannot be read safely, or a key or shape does not fit.
        ConfigError: if the recipe cannot be told from the file.
    """
    recipes = _imported_recipes(method, size)
    if recipe is not None:
        pick(recipes, recipe, what="imported recipe", where=f"{method}, size '{size}'")
    file = file or _downloaded(method, recipe)
    if not file.is_file():
        raise DataError(f"there is no file {file}: `vosrepro weights list` says where to get it")
    convert = get_method(method).convert
    if convert is None:
        raise ConfigError(f"method '{method}' has no released weights to import")
    released = read_checkpoint(file)
    released = released._replace(content=full_precision(released.content))
    if not isinstance(released.content, Mapping):
        raise CheckpointError(
            f"{file} holds a {type(released.content).__name__}, not a state dict: give the file that upstream "
            "released, unchanged"
        )
    try:
        state = convert(unwrapped(released.content))
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from error
    fitting = _fitting(method, state, recipes if recipe is None else {recipe: recipes[recipe]}, size)
    name = recipe or _only(method, file, fitting)
    if name not in fitting:
        raise CheckpointError(
            f"{file} is a checkpoint of {method}, but not for the network of recipe '{recipe}': leave "
            "--recipe out to see which it fits"
        )
    model = fitting[name]
    _load_once(method, model, state, source=str(file))
    return _write(method, name, size, file, released, state, model, out)


def _imported_recipes(method: str, size: str) -> dict[str, RecipeParams]:
    params = load_method(method)
    recipes = pick(params.sizes, size, what="size", where=f"method '{method}'").recipes
    found = {name: recipe for name, recipe in recipes.items() if recipe.weights == "imported"}
    if not found:
        raise ConfigError(f"method '{method}' has no recipe with imported weights at size '{size}'")
    return found


def _downloaded(method: str, recipe: str | None) -> Path:
    if recipe is None:
        raise ConfigError("give the released file, or --recipe of a file below weights/")
    found = released_file(method, recipe)
    if found is None:
        remedy = how_to_get_checkpoint(method, recipe, load_released())
        raise DataError(f"the released weights of {method}/{recipe} are not here: {remedy}")
    return found


def _fitting(
    method: str, state: Mapping[str, torch.Tensor], recipes: Mapping[str, RecipeParams], size: str
) -> dict[str, dict[str, Any]]:
    """Recipes whose network has exactly these keys and shapes, with the network's arguments."""
    chosen = load_method(method).sizes[size]
    build = get_method(method).build
    assert build is not None
    found = {}
    for name, recipe in recipes.items():
        model = without_start_weights(chosen.model_of(recipe))  # the converted weights are complete
        with torch.device("meta"):
            wanted = build(**model).state_dict()
        if {k: v.shape for k, v in wanted.items()} == {k: v.shape for k, v in state.items()}:
            found[name] = model
    return found


def _only(method: str, file: Path, fitting: Mapping[str, Any]) -> str:
    """The recipe that is meant: the only one that fits, or the only one of this file name."""
    released = load_released()
    named = [name for name in fitting if (facts := released.file(method, name)) is not None and facts.file == file.name]
    for names in (list(fitting), named):
        if len(names) == 1:
            return names[0]
    if not fitting:
        raise CheckpointError(
            f"{file} has the layout of {method}, but of none of its imported recipes' networks: add a recipe "
            f"to params/methods/{method}.yaml"
        )
    raise ConfigError(f"{file} fits the networks of {', '.join(fitting)}: say which it is with --recipe")


def _load_once(method: str, model: Mapping[str, Any], state: Mapping[str, torch.Tensor], *, source: str) -> None:
    network = build_model(method, model, weights=None, seed=0, device=torch.device("cpu"))
    assert network is not None
    load_strictly(network, state, source=source)
    broken = [k for k, v in state.items() if v.is_floating_point() and not v.isfinite().all()]
    if broken:
        raise CheckpointError(f"{source} holds values that are not finite, first in {broken[0]}: download it again")


def _write(  # noqa: PLR0913, the facts of one record
    method: str,
    recipe: str,
    size: str,
    file: Path,
    released: Any,
    state: Mapping[str, torch.Tensor],
    model: Mapping[str, Any],
    out: Path | None,
) -> ImportRecord:
    out = out or imported_weights(method, recipe)
    digest = file_digest(file)
    facts = load_released().file(method, recipe)
    stated = facts.sha256 if facts else None
    if stated is not None and stated != digest:
        raise CheckpointError(
            f"{file} is not the released file: its SHA-256 is {digest} instead of {stated}; download it again"
        )
    described = {"method": method, "model": dict(model), "size": size, "recipe": recipe}
    save_weights(out, state, {**described, "source_sha256": digest})
    given = dict(_tensors(released.content))
    ours = {id(value) for value in state.values()}
    known = {id(value) for value in given.values()}
    left = [name for name, value in given.items() if id(value) not in ours]
    added = [name for name, value in state.items() if id(value) not in known]
    record = ImportRecord(
        **described,
        weights=str(out),
        weights_sha256=file_digest(out),
        source=ReleasedSource(
            name=file.name,
            bytes=file.stat().st_size,
            sha256=digest,
            obtain=facts.obtain if facts else "unknown",
            licence=facts.licence if facts else "unknown: ask the authors",
            note=facts.note if facts else "",
        ),
        entries=ImportedTensors(
            used=len(given) - len(left),
            left_out=len(left),
            left_out_names=tuple(left[:_SHOWN]),
            from_elsewhere=len(added),
            from_elsewhere_names=tuple(added[:_SHOWN]),
        ),
        foreign_classes=tuple(released.foreign),
        provenance=Provenance.here(),
    )
    record.write(out.with_suffix(".json"))
    return record


def _tensors(value: Any, prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor in nested mappings, by its dotted name."""
    if isinstance(value, torch.Tensor):
        yield prefix, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _tensors(inner, f"{prefix}.{key}" if prefix else str(key))
