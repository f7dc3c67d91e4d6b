"""In which precision a method segments: float32, or bfloat16 where a machine computes in it and the card allows it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Literal

from vosrepro.base.errors import ConfigError
from vosrepro.base.types import Method

Precision = Literal["fp32", "bf16"]
#: The share of equal pixels that a card has to state before "auto" leaves float32.
LEAST_EQUAL_SHARE = 0.995


def resolve_precision(card: Method, asked: str, *, native: bool) -> Precision:
    """What is computed in.

    Args:
        card: of the method.
        asked: "fp32", "bf16" or "auto": bfloat16 if it is native and the card states that masks stay as they are.
        native: whether the machine computes in bfloat16, see `vosrepro.base.machine.computes_bf16`.

    Raises:
        ConfigError: if bf16 is asked of a method that has no such form.
    """
    able = card.prepare is not None or _as_setting(card)
    if asked == "bf16" and not able:
        raise ConfigError(f"method '{card.name}' runs in fp32 only: drop --precision {asked}")
    stays = (card.bf16_equal_share or 0.0) >= LEAST_EQUAL_SHARE
    return "bf16" if asked == "bf16" or (asked == "auto" and able and native and stays) else "fp32"


def settings_in(card: Method, settings: Mapping[str, Any], precision: Precision) -> dict[str, Any]:
    """Arguments of a segmenter that computes in a precision; a network of `prepare` has its own already."""
    return {**settings, "precision": precision} if precision != "fp32" and _as_setting(card) else dict(settings)


def _as_setting(card: Method) -> bool:
    return "precision" in inspect.signature(card.segmenter).parameters
