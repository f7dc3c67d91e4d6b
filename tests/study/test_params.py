from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from vosrepro.base.errors import ConfigError
from vosrepro.datasets import benchmark_images
from vosrepro.study import params
from vosrepro.study.params import (
    BenchmarkParams,
    DataParams,
    MethodParams,
    Study,
    load_benchmark,
    load_method,
    load_study,
    parse,
)


def test_every_shipped_parameter_file_loads(root):
    for path in (root / "params/studies").glob("*.yaml"):
        assert load_study(path).study == path.stem
    for path in (root / "params/methods").glob("*.yaml"):
        method = load_method(path.stem, root=root / "params")
        assert method.method == path.stem
        assert method.default_variant in method.variants
    for path in (root / "params/protocols").glob("*.yaml"):
        benchmark = load_benchmark(path.stem, root=root / "params")
        assert set(benchmark.primary_metrics) == set(benchmark.margin_points)


def mini(root):
    return yaml.safe_load((root / "params/studies/mini.yaml").read_text())


def test_a_misspelt_key_names_file_key_and_nearest_valid_one(root):
    value = mini(root)
    value["selection"]["sequencs"] = value["selection"].pop("sequences")
    with pytest.raises(ConfigError) as caught:
        parse(value, Study, source="params/studies/mini.yaml")
    message = str(caught.value)
    assert "params/studies/mini.yaml" in message
    assert "'selection.sequencs': did you mean 'sequences'?" in message


def test_a_misspelt_key_deep_inside_dictionaries_finds_its_model(root):
    value = yaml.safe_load((root / "params/methods/stm.yaml").read_text())
    value["sizes"]["mini"]["stages"]["s0"]["optimizer"]["weight_decai"] = 0.1
    with pytest.raises(ConfigError, match=r"weight_decai': did you mean 'weight_decay'\?"):
        parse(value, MethodParams, source="stm.yaml")


def test_a_wrong_value_is_quoted(root):
    value = mini(root) | {"seeds": "many"}
    with pytest.raises(ConfigError, match="seeds.*many"):
        parse(value, Study, source="mini.yaml")


def test_parameters_cannot_be_changed_after_loading(root):
    study = load_study(root / "params/studies/mini.yaml")
    with pytest.raises(ValueError, match="frozen"):
        study.size = "full"  # pyright: ignore[reportAttributeAccessIssue]


def test_a_recipe_that_names_no_stage_of_its_size_is_refused(root):
    value = yaml.safe_load((root / "params/methods/stm.yaml").read_text())
    value["sizes"]["mini"]["recipes"]["s02"]["stages"] = ["s0", "s9"]
    with pytest.raises(ConfigError, match="names stage 's9'"):
        parse(value, MethodParams, source="stm.yaml")


def test_a_missing_file_lists_what_there_is(root):
    with pytest.raises(ConfigError, match=r"min\.yaml; there are .*mini\.yaml"):
        load_study(root / "params/studies/min.yaml")


def test_broken_yaml_is_one_sentence(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: [1, 2\nb: }")
    with pytest.raises(ConfigError, match="not valid YAML") as caught:
        load_study(path)
    assert "\n" not in str(caught.value)


def test_an_unknown_method_names_the_nearest(root):
    with pytest.raises(ConfigError, match="did you mean 'stm'"):
        load_method("stn", root=root / "params")


def test_only_single_images_have_a_crop(in_root):
    value = load_benchmark("imagenet-val").model_dump()
    assert load_benchmark("imagenet-val").classifies
    assert not load_benchmark("davis17-val").classifies
    for change in ({"crop_px": None}, {"scoring": "davis2017"}):
        with pytest.raises(ConfigError, match="crop_px if and only if its scoring is 'imagenet'"):
            parse({**value, **change}, BenchmarkParams, source="x.yaml")
    with pytest.raises(ConfigError, match="'imagenet-val' classifies imagenet/train, but only"):
        wrong = load_benchmark("imagenet-val").model_copy(update={"split": "train"})
        benchmark_images(wrong, DataParams(root="nowhere"))


def test_every_key_of_every_model_is_explained_under_the_models_heading(in_root):
    sections = dict(part.split("\n", 1) for part in Path("params/README.md").read_text().split("\n## ")[1:])
    models = {m.__name__: m for m in vars(params).values() if isinstance(m, type) and issubclass(m, params.Strict)}
    models.pop("Strict")
    assert set(sections) == set(models)
    for name, model in models.items():
        missing = [key for key in model.model_fields if f"`{key}`" not in sections[name]]
        assert not missing, name
