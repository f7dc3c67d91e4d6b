"""Released checkpoints in upstream's layout become our weights, or one sentence says why not."""

from __future__ import annotations

import json
import os
import pickle
from collections import OrderedDict
from importlib import import_module
from pathlib import Path

import pytest
import torch

from vosrepro.base.errors import CheckpointError, ConfigError, DataError
from vosrepro.base.files import file_digest
from vosrepro.cli import main
from vosrepro.inference.own.setup import find_setup
from vosrepro.methods.common.checkpoints import unwrapped
from vosrepro.methods.common.seeded import seed_weights
from vosrepro.methods.frtm.model import FRTM
from vosrepro.weights.files import build_model
from vosrepro.weights.importing import import_weights
from vosrepro.weights.released import ReleasedFile, load_released, released_file

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network() -> FRTM:
    """FRTM with ResNet-18 and key-seeded weights."""
    made = FRTM(backbone="resnet18")
    seed_weights(made, gain=1.0)
    return made


@pytest.fixture
def place(tmp_path, root, monkeypatch, network):
    """An empty folder beside params/, where torchvision's backbone needs no download."""
    trunk = network.backbone.state_dict()
    module = import_module("vosrepro.methods.frtm.convert")
    monkeypatch.setattr(module, "imagenet_state", lambda name: dict(trunk))
    (tmp_path / "params").symlink_to(root / "params")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def upstream_state(network: FRTM) -> OrderedDict[str, torch.Tensor]:
    """What upstream saves: the segmentation network alone."""
    state = network.state_dict()
    return OrderedDict((k, v) for k, v in state.items() if k.startswith("refiner."))


class Bomb:
    """A pickle that runs a command when it is read the usual way."""

    def __reduce__(self):
        return os.system, ("touch exploded",)


class Meter:
    """What upstream's trainer leaves in its files."""

    def __init__(self):
        self.total = 5


def test_a_file_that_would_run_a_command_is_refused_unread(place):
    torch.save({"model": {}, "stats": Bomb()}, "rn18_all.pth")
    with pytest.raises(CheckpointError, match="cannot be read as a torch checkpoint"):
        import_weights("frtm", Path("rn18_all.pth"))
    assert not Path("exploded").exists()


def test_a_released_file_is_converted_and_recorded(place, network):
    file = place / "rn18_all.pth"
    content = {
        "name": "rn18_all",
        "epoch": 260,
        "stats": Meter(),
        "model": upstream_state(network),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}},
    }
    torch.save(content, file)
    record = import_weights("frtm", file)
    assert record.recipe == "released-rn18-all"  # of two that fit, the one of this file name
    assert record.weights == "weights/frtm/released-rn18-all.safetensors"
    assert record.source.sha256 == file_digest(file)
    assert record.source.licence.startswith("GPL-3.0")
    assert record.entries.used == len(content["model"])
    assert record.entries.left_out_names == ("optimizer.state.0.exp_avg",)
    assert record.entries.from_elsewhere == len(network.backbone.state_dict())
    assert record.foreign_classes == (f"{Meter.__module__}.Meter",)
    assert json.loads(Path("weights/frtm/released-rn18-all.json").read_text()) == record.stated()
    found = find_setup("frtm", Path(record.weights))
    loaded = build_model("frtm", found.model, weights=found.weights, seed=1, device=CPU)
    assert loaded is not None
    ours, theirs = loaded.state_dict(), network.state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)


WRAPPED = {
    "DataParallel": lambda state: {f"module.{k}": v for k, v in state.items()},
    "torch.compile": lambda state: {f"_orig_mod.{k}": v for k, v in state.items()},
    "Lightning": lambda state: {"epoch": 3, "state_dict": {f"model.{k}": v for k, v in state.items()}, "loops": {}},
    "a trainer": lambda state: {"network": {f"module._orig_mod.{k}": v for k, v in state.items()}, "it": 7},
    "another": lambda state: {"model_state_dict": state, "lr": 0.1},
    "bare": lambda state: dict(state),
}


@pytest.mark.parametrize("how", WRAPPED)
def test_the_state_of_a_network_is_found_in_whatever_it_was_wrapped(how, place, network):
    state = upstream_state(network)
    assert list(unwrapped(WRAPPED[how](state))) == list(state)
    torch.save(WRAPPED[how](state), "w.pth")
    record = import_weights("frtm", Path("w.pth"), recipe="released-rn18-all")
    assert record.entries.used == len(state)


def test_what_is_no_wrapping_is_left_to_the_method():
    ones = torch.ones(1)
    beside = {"model": {"a": ones}, "b": ones}
    assert unwrapped(beside) is beside
    two = {"module.a": ones, "head.b": ones}
    assert unwrapped(two) is two


def test_half_precision_and_safetensors_are_imported_as_well(place, network):
    from safetensors.torch import save_file

    state = upstream_state(network)
    save_file({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, "w.safetensors")
    record = import_weights("frtm", Path("w.safetensors"), recipe="released-rn18-all")
    loaded = build_model(
        "frtm", find_setup("frtm", Path(record.weights)).model, weights=Path(record.weights), seed=1, device=CPU
    )
    assert loaded is not None
    for key, value in loaded.state_dict().items():
        assert value.dtype == network.state_dict()[key].dtype
        assert torch.allclose(value.float(), network.state_dict()[key].float(), atol=2e-3), key


def test_the_command_finds_the_file_that_the_study_wants(place, network, capsys):
    place.joinpath("weights/frtm").mkdir(parents=True)
    torch.save({"model": upstream_state(network)}, "weights/frtm/released-rn18-ytvos.pt")
    assert str(released_file("frtm", "released-rn18-ytvos")).endswith(".pt")
    assert main(["weights", "import", "frtm", "--recipe", "released-rn18-ytvos"]) == 0
    shown = capsys.readouterr().out
    assert "weights/frtm/released-rn18-ytvos.safetensors: frtm/released-rn18-ytvos from" in shown
    assert "licence: GPL-3.0" in shown
    main(["weights", "list"])
    listed = capsys.readouterr().out
    assert "frtm/released-rn18-ytvos: imported" in listed
    assert "frtm/released-rn18-all: not here" in listed
    assert "stm/kmn2020: neither code nor weights" in listed


def test_a_file_that_lacks_says_where_to_get_it_and_where_to_put_it(place):
    with pytest.raises(
        DataError,
        match=r"released weights of stm/released are not here: download "
        r"propagation_model.pth \(https://drive.google.com/.*; licence: MIT .*\) and put it "
        r"at weights/stm/released.pth",
    ):
        import_weights("stm", None, recipe="released")
    with pytest.raises(DataError, match="there is no file nothing.pth: `vosrepro weights list`"):
        import_weights("stm", Path("nothing.pth"))
    with pytest.raises(ConfigError, match="give the released file, or --recipe"):
        import_weights("stm", None)


def test_a_layout_that_fits_several_systems_needs_a_name(place, network):
    torch.save({"model": upstream_state(network)}, "mine.pth")
    with pytest.raises(
        ConfigError, match="fits the networks of released-rn18-ytvos, released-rn18-all: say which it is with --recipe"
    ):
        import_weights("frtm", Path("mine.pth"))
    with pytest.raises(CheckpointError, match="not for the network of recipe 'released-rn101-dv'"):
        import_weights("frtm", Path("mine.pth"), recipe="released-rn101-dv")
    with pytest.raises(ConfigError, match="did you mean 'released-rn18-all'"):
        import_weights("frtm", Path("mine.pth"), recipe="released-rn18-al")


def bad_key(state):
    state["refiner.extra"] = torch.zeros(1)


def bad_shape(state):
    key = "refiner.project.conv2.bias"
    state[key] = torch.zeros(2)


def bad_lack(state):
    del state["refiner.project.conv2.bias"]


def bad_value(state):
    state["refiner.project.conv2.bias"] = torch.tensor([float("nan")])


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (bad_key, r"1 keys are unknown \(refiner.extra\)"),
        (bad_shape, r"refiner.project.conv2.bias: \(2,\) instead of \(1,\)"),
        (bad_lack, r"1 keys are missing \(refiner.project.conv2.bias\)"),
        (bad_value, "values that are not finite, first in refiner.project.conv2.bias"),
    ],
)
def test_a_checkpoint_that_does_not_fit_names_the_entry(place, network, damage, sentence):
    state = OrderedDict((k, v.clone()) for k, v in upstream_state(network).items())
    damage(state)
    torch.save({"model": state}, "rn18_all.pth")
    with pytest.raises(CheckpointError, match=sentence):
        import_weights("frtm", Path("rn18_all.pth"))
    assert not Path("weights").exists()


def test_files_that_are_no_checkpoint_are_refused(place):
    Path("page.pth").write_text("<html>quota exceeded</html>")
    Path("plain.pth").write_bytes(pickle.dumps([1, 2]))
    torch.save([torch.zeros(2)], "list.pth")
    for name, sentence in (
        ("page.pth", "page.pth cannot be read as a torch checkpoint .* is usually a web page"),
        ("plain.pth", "plain.pth cannot be read as a torch checkpoint"),
        ("list.pth", "list.pth holds a list, not a state dict"),
    ):
        with pytest.raises(CheckpointError, match=sentence):
            import_weights("frtm", Path(name))
    with pytest.raises(ConfigError, match="method 'copy' has no recipe with imported weights"):
        import_weights("copy", Path("list.pth"))


def test_every_imported_recipe_is_listed_and_every_listed_file_has_a_recipe(in_root):
    from vosrepro.methods import REGISTRY
    from vosrepro.study.params import load_method

    released = load_released()
    recipes = {
        (method, name): recipe
        for method in REGISTRY
        if (in_root / f"params/methods/{method}.yaml").is_file()
        for size in load_method(method).sizes.values()
        for name, recipe in size.recipes.items()
        if recipe.weights == "imported"
    }
    listed = {
        (method, name)
        for method, files in released.methods.items()
        for name, facts in files.items()
        if isinstance(facts, ReleasedFile)
    }
    assert listed == set(recipes)
    assert all(r.published_as or m == "stm" for (m, _), r in recipes.items())


def test_the_parts_of_a_study_keep_their_folders(in_root):
    from vosrepro.study.params import Only, load_study
    from vosrepro.study.plan import load_plan

    whole = load_study("params/studies/paper.yaml")
    some = whole.model_copy(update={"only": Only(methods=("stm",), recipes=("s012",))})
    plan, part = load_plan(whole), load_plan(some)
    assert {e.run.recipe for e in part.entries} == {"s012"}
    assert {n.folder for n in part.stages} < {n.folder for n in plan.stages}
    with pytest.raises(ConfigError, match="key 'only' names nothing"):
        load_plan(whole.model_copy(update={"only": Only(methods=("stn",))}))


def imported_recipes() -> list[tuple[str, str]]:
    released = load_released(Path(__file__).parents[2] / "params/released.yaml")
    return [
        (method, name)
        for method, files in released.methods.items()
        for name, facts in files.items()
        if isinstance(facts, ReleasedFile)
    ]


@pytest.mark.parametrize(("method", "recipe"), imported_recipes())
def test_the_layout_of_every_released_file_fits_its_recipe(in_root, monkeypatch, method, recipe):
    from vosrepro.methods import get_method
    from vosrepro.study.params import load_method
    from vosrepro.weights.importing import _fitting, _imported_recipes

    card, recipes = get_method(method), _imported_recipes(method, "full")
    model = {**load_method(method).sizes["full"].model, **recipes[recipe].model}
    model.pop("encoder_weights", None)
    model.pop("pretrained", None)
    assert card.build is not None
    assert card.convert is not None
    with torch.device("meta"):
        state = card.build(**model).state_dict()
    trunk = {k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")}
    module = import_module("vosrepro.methods.frtm.convert")
    monkeypatch.setattr(module, "imagenet_state", lambda name: dict(trunk))
    upstream = {k: v for k, v in state.items() if not k.startswith("backbone.")}
    wrapped = {"model": upstream} if trunk else {f"module.{k}": v for k, v in upstream.items()}
    assert recipe in _fitting(method, card.convert(wrapped), recipes, "full")
