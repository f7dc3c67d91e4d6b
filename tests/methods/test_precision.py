"""In which precision a method segments."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mini_clips import mini_setup, moving_clip

from vosrepro.base import machine
from vosrepro.base.errors import ConfigError
from vosrepro.base.files import read_json
from vosrepro.base.machine import computes_bf16
from vosrepro.inference.own.kept import RECORD
from vosrepro.inference.own.segment import ClipJob, check_clip, segment_clip
from vosrepro.methods import REGISTRY, get_method
from vosrepro.methods.common.precision import LEAST_EQUAL_SHARE, resolve_precision

CPU = torch.device("cpu")
CARDS = Path(__file__).parents[2] / "src/vosrepro/methods"


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16"])
def test_a_processor_computes_in_bfloat16_if_the_kernel_says_so(tmp_path, monkeypatch, flag):
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
    assert not computes_bf16(CPU)
    (tmp_path / "cpuinfo").write_text("model name\t: X bf16\nflags\t\t: fpu avx512f avx512_bf16x\n")
    assert not computes_bf16(CPU)
    (tmp_path / "cpuinfo").write_text(f"model name\t: X\nflags\t\t: fpu {flag} avx512f\n")
    assert computes_bf16(CPU)


@pytest.mark.parametrize("name", ["stm", "parts"])
def test_auto_leaves_float32_only_on_such_a_machine_and_if_the_card_allows_it(name):
    card = get_method(name)
    assert resolve_precision(card, "auto", native=True) == "bf16"
    assert resolve_precision(card, "auto", native=False) == "fp32"
    assert resolve_precision(card, "fp32", native=True) == "fp32"
    assert resolve_precision(card, "bf16", native=False) == "bf16"
    for share in (None, LEAST_EQUAL_SHARE - 1e-6):
        assert resolve_precision(replace(card, bf16_equal_share=share), "auto", native=True) == "fp32"


def test_a_method_without_such_a_form_stays_in_float32():
    assert resolve_precision(get_method("copy"), "auto", native=True) == "fp32"
    with pytest.raises(ConfigError, match="'copy' runs in fp32 only"):
        resolve_precision(get_method("copy"), "bf16", native=True)


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_a_card_states_the_share_that_decides(name):
    share = get_method(name).bf16_equal_share
    text = (CARDS / name / "README.md").read_text(encoding="utf-8")
    assert ("In bf16 a share of" in text) == (share is not None)
    assert share is None or f"In bf16 a share of {share} of all pixels" in text


@pytest.mark.parametrize("name", ["stm", "pml"])
def test_masks_of_one_precision_are_never_taken_for_those_of_the_other(tmp_path, in_root, name):
    torch.manual_seed(0)
    job = ClipJob(moving_clip(tmp_path), mini_setup(name, tmp_path), tmp_path / "out", CPU, None)
    half = replace(job, precision="bf16")
    segment_clip(job)
    one = read_json(job.out / RECORD)
    assert check_clip(job)
    segment_clip(replace(half, out=tmp_path / "half"))
    other = read_json(tmp_path / "half" / RECORD)
    assert (one["precision"], other["precision"]) == ("fp32", "bf16")
    assert one["identity"] != other["identity"]
    assert next(half.network().parameters()).dtype == (torch.bfloat16 if name == "stm" else torch.float32)
    assert half.settings.get("precision") == (None if name == "stm" else "bf16")
