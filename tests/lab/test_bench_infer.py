"""`vosrepro bench infer`."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import pytest
import torch

from vosrepro.cli import main
from vosrepro.costs.rates import load_rates, named_identities
from vosrepro.lab.ceiling import product_rate
from vosrepro.study.params import load_method

TINY = ["--size", "48x64", "--frames", "4", "--threads", "1", "--warmup", "1", "--device", "cpu"]


def _json(capsys):
    return json.loads(capsys.readouterr().out)


def test_a_method_without_weights_is_measured(in_root, capsys):
    assert main(["bench", "infer", "--method", "copy", *TINY, "--json"]) == 0
    found = _json(capsys)
    assert found["optimized"]["frames"] == 4
    assert found["optimized"]["fps_steady"] > 0


def test_the_plain_form_is_measured_beside_and_finds_the_same(in_root, capsys):
    arguments = ["--method", "stm", "--network", "mini", "--objects", "2", "--variant", "full"]
    assert main(["bench", "infer", *arguments, *TINY, "--plain", "--json"]) == 0
    found = _json(capsys)
    assert found["settings"]["top_k"] is None
    one, other = (found[form]["foreground_share"] for form in ("optimized", "plain"))
    assert one == pytest.approx(other, abs=1e-3)


def test_the_table_names_rates_latencies_and_memory(in_root, capsys):
    assert main(["bench", "infer", "--method", "stm", "--network", "mini", *TINY]) == 0
    out = capsys.readouterr().out
    for word in ("fps_amortised", "fps_steady", "latency_p95_ms", "peak_rss_mb"):
        assert word in out


def test_the_rate_of_products_stands_beside_that_of_one_large_product(in_root, capsys):
    arguments = ["--method", "stm", "--network", "mini", "--variant", "full"]
    assert main(["bench", "infer", *arguments, *TINY, "--ceiling", "--json"]) == 0
    found = _json(capsys)["optimized"]
    assert found["gflops"] == pytest.approx(found["gflop_per_frame"] * found["fps_steady"])
    assert 0 < found["share_of_ceiling"] < 1.1
    assert found["share_of_ceiling"] == pytest.approx(found["gflops"] / found["gflops_ceiling"])


def test_a_product_is_counted_by_the_cube_of_its_side():
    """A rate does not depend on the size that it is measured with, as far as the clock of a busy machine tells."""
    small, large = (product_rate(torch.device("cpu"), torch.float32, side=side, rounds=8) for side in (384, 768))
    assert 1 / 3 < small / large < 3


def test_rates_of_a_recipe_and_variant_become_rows(in_root, tmp_path, capsys):
    path = tmp_path / "rates.csv"
    arguments = ["--method", "stm", "--network", "mini", "--recipe", "s012", "--variant", "top50"]
    assert main(["bench", "infer", *arguments, *TINY, "--write", str(path), "--note", "busy"]) == 0
    rows = list(csv.DictReader(path.open()))
    assert [(row["kind"], row["name"], row["objects"]) for row in rows] == [
        ("init", "s012/top50", "1"),
        ("infer", "s012/top50", "1"),
    ]
    assert rows[0]["source"] == "vosrepro bench infer, 4 frames of 48x64, fp32, 1 threads; busy"
    key = ("infer", named_identities(load_method("stm"), "mini")["infer", "s012/top50"])
    assert key in load_rates(path).find({"stm": load_method("stm")}, "mini")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--method", "stm", "--write"], "--write needs --recipe and --variant"),
        (["--method", "stm", "--recipe", "s013"], "did you mean 's01"),
        (["--method", "stm", "--variant", "top5"], "did you mean 'top50'"),
        (["--method", "copy", "--precision", "bf16"], "fp32 only"),
        (["--method", "copy", "--plain"], "no plain form"),
        (["--method", "copy", "--ceiling", "--frames", "1"], "--frames 2 or more"),
        (["--method", "copy", "--set", "x"], "not KEY=VALUE"),
    ],
)
def test_a_mistake_is_one_sentence(in_root, capsys, arguments, sentence):
    assert main(["bench", "infer", *TINY, *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_it_runs_with_little_installed(in_root):
    """On a bare GPU machine there is no YAML, pandas, pillow or safetensors."""
    code = (
        "import sys\n"
        "for name in ('yaml', 'pandas', 'PIL', 'safetensors', 'matplotlib', 'scipy', 'pyarrow',"
        " 'mlflow', 'snakemake', 'dvc', 'tqdm', 'isal', 'av', 'jinja2'):\n"
        "    sys.modules[name] = None\n"
        "from vosrepro.cli import main\n"
        "sys.exit(main(['bench', 'infer', '--method', 'stm', '--model', 'width=8',"
        " '--model', 'key_dim=8', '--model', 'value_dim=8', '--model', 'decoder_dim=8',"
        f" *{TINY!r}]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "fps_amortised" in done.stdout
