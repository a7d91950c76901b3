"""Configurations: what is legal, what an error says, and that a file gives back what was put in."""

import dataclasses
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Gt
from pydantic import ValidationError

from cases import thinned
from latflow.config import differing, load_config, parse_config, preset_names, section_of, to_toml
from latflow.config.checking import built_action, built_model
from latflow.config.schema import training_section
from latflow.config.sections import UnsettableError, arguments_of
from latflow.errors import ConfigError
from latflow.estimators import ESTIMATORS
from latflow.samplers import SingleSpin, SwendsenWang, Wolff
from latflow.theories import Ising, Schwinger
from latflow.training import Anneal, Schedule, Trainer

SMALLEST = """
[action]
type = "phi4"
lattice = [4, 6]
m2 = 1
lam = 0.5
[model]
type = "affine"
layers = 2
hidden = [4]
"""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if "128" in name else name for name in preset_names()],
)
def test_presets_describe_runs(name):
    config = load_config(name)
    assert config.name == name
    assert config.description
    action = built_action(config.action)
    assert built_model(config.model, action).lattice == action.lattice


@pytest.mark.parametrize("name", thinned(preset_names(), 4))
def test_a_configuration_survives_its_file(name):
    config = load_config(name, ["training.clip=0.5", "compute.threads=1"])
    again = parse_config(tomllib.loads(to_toml(config)))
    assert again.table() == config.table()
    assert differing(again.table(), config.table()) == {}


def test_a_file_is_named_after_itself(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(SMALLEST)
    config = load_config(path)
    assert config.name == "mine"
    assert built_action(config.action).lattice == (4, 6)
    assert load_config(str(path), ["name=yours"]).name == "yours"


# --- sections are made from signatures ------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float = 0.5

    def __post_init__(self):
        if self.rate > 1:
            raise ValueError(f"expected a rate of at most 1, got {self.rate}")


class Unknown:
    pass


def anything(
    lattice: Sequence[int],
    mass: float,
    *,
    size: Annotated[int, Gt(0)] = 3,
    rule: Literal["a", "b"] = "a",
    kernel: int | Sequence[int] = (3, 3),
    clip: Annotated[float, Gt(0)] | None = None,
    table: Mapping[str, Any] | None = None,
    inner: Inner | None = None,
    helper: Unknown | None = None,
    free=(),
    generator: Any = None,
) -> dict[str, Any]:
    return locals()


def test_a_section_has_the_arguments_of_its_constructor():
    section = section_of(anything)
    assert list(section.model_fields) == [
        "lattice", "mass", "size", "rule", "kernel", "clip", "table", "inner", "helper", "free",
    ]  # fmt: skip
    read = section(lattice=[4, 6], mass=1, kernel=[5, 1], table={"a": [1]}, inner={"rate": 0.25})
    made = arguments_of(read)
    assert (made["lattice"], made["mass"], made["kernel"]) == ((4, 6), 1.0, (5, 1))
    assert made["inner"] == Inner(0.25)
    assert made["table"] == {"a": [1]}
    assert arguments_of(section(lattice=[4], mass=0.5, kernel=7))["kernel"] == 7


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 0}, {"size": 1.5}, {"size": True}, {"rule": "c"}, {"kernel": "wide"}, {"clip": 0.0},
        {"lattice": 4}, {"lattice": ["4"]}, {"mass": "1"}, {"other": 1}, {"inner": {"rat": 1.0}},
        {"generator": 1}, {"helper": 3}, {"mass": float("nan")},
    ],
)  # fmt: skip
def test_a_section_checks_by_annotations(wrong):
    with pytest.raises(ValidationError):
        section_of(anything)(**({"lattice": [4], "mass": 1.0} | wrong))


def test_a_part_of_a_section_that_is_refused_is_named():
    read = section_of(anything)(lattice=[4], mass=1.0, inner={"rate": 2.0})
    with pytest.raises(ValueError, match=r"inner: expected a rate of at most 1, got 2\.0"):
        arguments_of(read)


def test_what_no_table_can_hold_is_told():
    def needs(helper: Unknown) -> None: ...

    with pytest.raises(UnsettableError, match="argument helper is Unknown"):
        section_of(needs)


def test_the_training_is_the_arguments_of_the_trainer():
    section = training_section()()
    made = arguments_of(section)
    assert made["estimator"] in ESTIMATORS
    own = {"estimator", "estimator_options", "checkpoint_every", "init_from"}
    assert set(made) - own <= set(Trainer.__init__.__annotations__)
    read = training_section()(schedule={"name": "cosine", "warmup": 3}, anneal={"start": 0.5, "steps": 3})
    assert arguments_of(read)["schedule"] == Schedule("cosine", warmup=3)
    assert arguments_of(read)["anneal"] == Anneal(0.5, 3)


# --- theories, models, samplers -------------------------------------------------------------------


def test_sections_build_theories():
    def built(**table):
        return built_action(parse_config(tomllib.loads(SMALLEST) | {"name": "x", **table}).action)

    phi4 = built()
    assert (phi4.lattice, phi4.m2, phi4.lam) == ((4, 6), 1.0, 0.5)
    hopping = built(action={"type": "hopping_phi4", "lattice": [4, 6], "beta": 0.6, "lam": 0.5})
    assert (hopping.beta, hopping.lam) == (0.6, 0.5)
    arguments = {"lattice": (4, 8), "beta": 2.0, "kappa": 0.2, "flavours": 1, "boundary": "periodic"}
    model = {"type": "gauge", "layers": 1, "hidden": [2], "dilation": 1}
    found = built(action={"type": "schwinger", **arguments}, model=model)
    assert found == Schwinger(**arguments)


def test_couplings_are_nested_lists():
    couplings = [[[1.0, -0.5], [0.25, 2.0]], [[1.0, 1.0], [1.0, -1.0]]]
    config = load_config("ising-8x8", ["action.lattice=[2, 2]", f"action.couplings={couplings}"])
    assert built_action(config.action) == Ising((2, 2), 0.44068679, couplings=couplings)
    again = parse_config(tomllib.loads(to_toml(config)))
    assert again.table() == config.table()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("wolff", Wolff), ("swendsen_wang", SwendsenWang),
        ("heat_bath", lambda action: SingleSpin(action, "heat_bath")),
        ("metropolis", lambda action: SingleSpin(action, "metropolis")),
    ],
)  # fmt: skip
def test_a_sampler_stands_beside_by_its_name(name, expected):
    config = load_config("ising-8x8", [f"beside.kernels={name}"])
    action = built_action(config.action)
    (sampler,) = config.beside.build(action).values()
    assert sampler == expected(action)
    assert f'kernels = [\n    "{name}",\n]' in to_toml(config).partition("[beside]")[2]


def test_the_theory_says_what_stands_beside():
    assert list(load_config("ising-8x8").beside.kernels) == ["wolff"]
    assert list(load_config("u1").beside.kernels) == ["hmc"]
    assert list(load_config("schwinger-8x8").beside.kernels) == ["hmc", "hops"]
    plain = parse_config(tomllib.loads(SMALLEST) | {"name": "x"})
    assert list(plain.beside.kernels) == ["hmc"]
    off = load_config("u1", ["beside.enabled=false"])
    assert off.beside is None
    assert off.table()["beside"] == {"enabled": False}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["training.estimator=path_gradient"],
            "training.estimator: a discrete field (spins) has no derivative",
        ),
        (["training.estimator=reparametrization"], "score, reinforce, reinforce_leave_one_out, got reparam"),
        (
            ["model={type='gauge', layers=1}"],
            "model: expected a model for the kind of field of this action, spins",
        ),
        (["model.type=dense", "model.coupling=0.3"], "model.coupling: unknown key"),
        (["action.lattice=[8]"], "model: expected a lattice of two sides"),
        (["action.lattice=[1, 8]"], "action: expected sides of at least 2 for bonds"),
        (["action.couplings=[[1.0]]"], "action: expected finite couplings of shape (2, 8, 8), got"),
        (["action.field=0.1"], "model: expected z2 = false for an action without the symmetry"),
        (["beside.kernels=glauber"], "beside.glauber: expected a sampler out of "),
        (["beside.kernels=hmc"], "beside.hmc: "),
        (["beside.wolf.repeat=2"], "beside.wolf: unknown key; did you mean wolff?"),
        (["beside.trajectory_length=1.0"], "beside.trajectory_length: unknown key"),
        (
            ["beside.kernels=heat_bath", "action.lattice=[3, 4]"],
            "beside.heat_bath: a checkerboard needs even sides",
        ),
        (
            ["training.anneal.steps=2000", "training.anneal.start=0.0"],
            "training.anneal.steps: expected fewer steps of annealing than of",
        ),
        (["training.anneal.steps=5", "training.anneal.start=1.0"], "training.anneal: expected 0 ≤ start < 1"),
        (["reference.phi_squared='1.0(1)'"], "reference: expected names out of log_z, free_energy_density"),
    ],
)
def test_what_is_wrong_with_spins_is_named(overrides, message):
    with pytest.raises(ConfigError) as caught:
        load_config("ising-8x8", overrides)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("preset", "overrides", "message"),
    [
        ("u1", ["sampling.kernels=[]"], "sampling.kernels: expected at least one kernel, got none"),
        (
            "u1",
            ["sampling.kernels=['hops']"],
            "model: expected a kernel that reaches all configurations beside hops",
        ),
        (
            "u1",
            ["sampling.kernels=['hmc', 'hops', 'hmc']"],
            "sampling.kernels: expected each kernel once, got h",
        ),
        ("u1", ["sampling.kernels=['hcm']"], "sampling.hcm: expected a sampler out of "),
        ("u1", ["sampling.kernels=3"], "sampling.kernels: expected a list, got 3"),
        ("u1", ["beside.kernels=['hops']"], "beside: expected a kernel that reaches all configurations"),
        (
            "u1",
            ["sampling.kernels=['steps']"],
            "expected a name of letters, digits and _, got the kernel 'steps'",
        ),
        ("phi4-8x8", ["sampling.kernels=['hmc', 'hops']"], "sampling.hops: expected a theory of links"),
        ("ising-8x8", ["sampling.kernels=['proposals', 'hmc']"], "sampling.hmc: "),
        (
            "u1",
            ["sampling.flowed_hmc.jitter=0.1"],
            "sampling.flowed_hmc: unknown key; expected one of kernels",
        ),
        (
            "u1",
            ["sampling.kernels=['flowed_hmc']", "sampling.flowed_hmc.step=3"],
            "sampling.flowed_hmc.step: unknown key; expected one of trajectory_length, target_acceptance",
        ),
        (
            "u1",
            ["sampling.proposals.repeat=0"],
            "sampling.proposals.repeat: expected a whole number of at least 1",
        ),
        (
            "u1",
            ["sampling.proposals=3"],
            "sampling.proposals: expected the settings of the kernel proposals, got 3",
        ),
        ("u1", ["beside.hmc.fourier_mass=0.5"], "beside.hmc: "),
        (
            "phi4-8x8",
            ["beside.hmc.fourier_mass=0.0"],
            "beside.hmc.fourier_mass: expected greater than 0, got 0.0",
        ),
        ("phi4-8x8", ["beside.hmc.trajectory_length=[]"], "beside.hmc"),
        ("phi4-8x8", ["beside.hmc.trajectory_length=[1.0, -2.0]"], "beside.hmc.trajectory_length: "),
        (
            "phi4-8x8",
            ["beside.hmc.trajectory_length=-1.0"],
            "beside.hmc.trajectory_length: expected greater than 0, got -1.0",
        ),
        (
            "phi4-8x8",
            ["beside.chains=1", "beside.hmc.trajectory_length=[1.0, 2.0]"],
            "beside.hmc: expected at least 2 chains to compare trajectory lengths: their spread",
        ),
    ],
)
def test_kernels_that_make_no_chain_are_named(preset, overrides, message):
    with pytest.raises(ConfigError) as caught:
        load_config(preset, overrides)
    assert message in str(caught.value)


def test_kernels_have_names_of_their_own():
    changes = [
        "sampling.kernels=['hmc', 'long']",
        "sampling.long.type=hmc",
        "sampling.long.trajectory_length=4",
    ]
    config = load_config("phi4-8x8", [*changes, "sampling.long.repeat=3", "sampling.hmc.fourier_mass=2"])
    assert list(config.sampling.kernels) == ["hmc", "long"]
    assert config.sampling.repeats == {"hmc": 1, "long": 3}
    assert config.sampling.kernels["long"].arguments.trajectory_length == 4.0
    assert config.sampling.kernels["hmc"].arguments.fourier_mass == 2.0
    again = parse_config(tomllib.loads(to_toml(config)))
    assert again.table() == config.table()
    plain = load_config("phi4-8x8")
    assert differing(plain.table(), config.table())["sampling.kernels"] == (["proposals"], ["hmc", "long"])


LINKS = """
[action]
type = "u1"
lattice = [4, 8]
beta = 2
[model]
type = "gauge"
layers = 1
hidden = [4]
kernel = [3, 1]
dilation = 1
"""


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.type=affine"], "model.masks: unknown key"),
        (["action.lattice=[4, 6]"], "model: "),
        (["action.lattice=[4, 4, 4]"], "action: expected a lattice of two sides"),
        (["action.kappa=0.2"], "action.kappa: unknown key"),
        (["model.rectangles=some"], "model"),
        (["reference.magnetization='0.0(1)'"], "reference: expected names out of log_z, plaquette, charge"),
        (["action.type=schwinger"], "action.kappa: expected a value, got none"),
        (["action.type=schwinger", "action.kappa=0.2", "action.flavours=0"], "action.flavours: expected "),
        (["action.type=schwinger", "action.kappa=0.2", "action.boundary=open"], "action.boundary: expected "),
    ],
)
def test_what_is_wrong_with_links_is_named(tmp_path, overrides, message):
    path = tmp_path / "links.toml"
    path.write_text(LINKS + 'masks = "stripes"\n')
    assert load_config(path).model.arguments.masks == "stripes"
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    assert message in str(caught.value)


def test_models_are_for_their_kind_of_field(tmp_path):
    path = tmp_path / "mixed.toml"
    action, model = LINKS.split("[model]")
    path.write_text(action + SMALLEST[SMALLEST.index("[model]") :])
    with pytest.raises(
        ConfigError,
        match="model: expected a model for the kind of field of this action, links, got one for scalar",
    ):
        load_config(path)
    path.write_text(SMALLEST[: SMALLEST.index("[model]")].replace("[4, 6]", "[4, 8]") + "[model]" + model)
    with pytest.raises(
        ConfigError, match="model: expected a model for the kind of field of this action, scalar, got"
    ):
        load_config(path)


def test_references_are_names_of_the_theory(tmp_path):
    path = tmp_path / "links.toml"
    path.write_text(LINKS + '[reference]\ncharge_squared = "1.24(1)"\n')
    assert set(load_config(path).reference) == {"charge_squared"}
    with pytest.raises(ConfigError, match=r"reference: expected names out of .*, got pion_mass_1"):
        load_config(path, ["reference.pion_mass_1='0.5(1)'"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.bacth=3", "training.bacth: unknown key; did you mean batch?"),
        ("foo.bar=1", "foo: unknown key; expected one of name, "),
        ("training.batch=many", "training.batch: expected a valid integer, got 'many'"),
        ("training.batch=1.5", "training.batch: expected a valid integer, got 1.5"),
        ("training.batch=true", "training.batch: expected a valid integer, got True"),
        ("training.batch=0", "training.batch: expected greater than or equal to 1, got 0"),
        ("training.learning_rate=nan", "training.learning_rate: expected a finite number, got nan"),
        ("training.learning_rate=0.0", "training.learning_rate: expected greater than 0"),
        ("training.schedule.floor=2.0", "training.schedule: expected 0 ≤ floor ≤ 1"),
        ("training.schedule.flor=0.1", "training.schedule.flor: unknown key; did you mean floor?"),
        ("training.estimator=g3", "training.estimator: expected one out of score, reinforce"),
        ("training.optimizer=adagrab", "training.optimizer: expected optimizer adadelta, "),
        (
            "training.optimizer_options={beta=3}",
            "training.optimizer: expected options of the optimizer out of",
        ),
        ("model.type=splin", "model.type: expected one of affine, "),
        ("model.bin=4", "model.bin: unknown key; did you mean bins?"),
        ("model.kernel=wide", "model.kernel: expected a valid integer, got 'wide'"),
        ("model.activation=cosine", "model: expected activation"),
        ("action.lattice=[7, 8]", "model: a checkerboard needs even side"),
        ("action.lattice=[]", "action: expected a lattice of one to"),
        ("action.lattice=8", "action.lattice: expected a list, got 8"),
        ("action.m2=null", "action.m2: expected a value, got none"),
        ("action.type=null", "action: expected a key 'type'"),
        ("compute.device=7", "compute.device: expected a valid string, got 7"),
        ("compute.dtype=float16", "compute.dtype: expected 'float32' or 'float64'"),
        ("reference.log_z=9.3", "reference.log_z: expected a valid string, got 9.3"),
        ("reference.log_z='9.3'", "reference: expected a number with its error"),
        ("reference.logz='9.3(1)'", "reference: expected names out of log_z"),
        ("name='a/b'", "name: "),
        ("name.first=a", "name.first: name is a value and holds no keys"),
        ("training.batch", "expected a change of the form section.key=value"),
        ("=3", "expected a change of the form section.key=value"),
    ],
)
def test_what_is_wrong_is_named(override, message):
    with pytest.raises(ConfigError) as caught:
        load_config("phi4-8x8", [override])
    assert message in str(caught.value)


def test_faults_come_at_once():
    with pytest.raises(ConfigError) as caught:
        load_config("phi4-8x8", ["sampling.steps=a", "beside.steps=b"])
    assert "sampling.steps: " in str(caught.value)
    assert "beside.steps: " in str(caught.value)


@pytest.mark.parametrize(
    "override", ["foo=1", "sampling.stepz=3", "action.type=phi5", "beside.steps=a", "training"]
)
def test_what_needs_no_pytorch_is_told_before_it_is_loaded(override):
    code = (
        "import sys\nfrom latflow.config import load_config\nfrom latflow.errors import ConfigError\n"
        f"try:\n    load_config('phi4-8x8', [{override!r}])\n"
        "except ConfigError:\n    print('torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert told.stdout.strip() == "False"


def test_overrides_are_toml():
    changes = ["model.hidden=[4, 4]", "compute.device=cpu", "training.clip=null", "model.fourier=false"]
    config = load_config("phi4-8x8", changes)
    assert config.model.arguments.hidden == (4, 4)
    assert config.compute.device == "cpu"
    assert config.training.clip is None
    assert config.model.arguments.fourier is False
    assert differing(config.table(), load_config("phi4-8x8", changes[:3]).table()) == {
        "model.fourier": (False, True)
    }


def test_an_unknown_preset_lists_the_presets(tmp_path):
    with pytest.raises(ConfigError, match="phi4-8x8"):
        load_config("phi5")
    with pytest.raises(ConfigError, match="expected a preset, a TOML file or the folder of a run"):
        load_config(tmp_path)


def test_a_file_that_is_no_toml(tmp_path):
    path = Path(tmp_path / "broken.toml")
    path.write_text("batch 3")
    with pytest.raises(ConfigError, match=r"broken\.toml is no TOML"):
        load_config(path)


def test_a_device_that_is_not_there():
    with pytest.raises(ConfigError, match=r"compute\.device: expected 'auto', 'cpu', 'cuda'"):
        load_config("phi4-quick", ["compute.device=gpu"]).compute.torch_device()


@pytest.mark.parametrize(
    "changes",
    [
        ["action.lam=-1"],
        ["action.lam=0", "action.m2=-1.0"],
        ["action.lam=0", "action.m2=-4.0"],
        ["action.lam=0", "action.m2=0.0"],
        ["action.lam=nan"],
        ["action.m2=inf"],
    ],
)
def test_a_target_that_does_not_exist_is_refused_before_anything_runs(changes):
    with pytest.raises(ConfigError, match=r"action.*(cannot be normalised: expected|expected a finite)"):
        load_config("phi4-quick", changes)


def test_a_coarse_theory_that_does_not_exist_is_refused_with_the_model():
    coarse = {"type": "phi4", "m2": -1.0, "lam": 0.0}
    with pytest.raises(ConfigError, match=r"model: .*cannot be normalised"):
        parse_config(
            tomllib.loads(SMALLEST) | {"name": "a", "model": {"type": "coarse_to_fine", "coarse": coarse}}
        )


def test_what_one_of_two_configurations_has_alone_is_a_difference():
    """Whichever has it: the value of the other is None."""
    small, large = {"a": {"b": 1}}, {"a": {"b": 1, "c": 2}, "d": {"e": 3}}
    assert differing(small, large) == {"a.c": (None, 2), "d.e": (None, 3)}
    assert differing(large, small) == {"a.c": (2, None), "d.e": (3, None)}
    assert differing(large, large) == {}


@pytest.mark.parametrize(("steps", "legal"), [(4, True), (5, False)])
def test_an_annealing_leaves_a_step_for_the_theory_itself(steps, legal):
    changes = ["training.steps=5", f"training.anneal={{start=0.5, steps={steps}}}"]
    if legal:
        assert load_config("phi4-quick", changes).training is not None
        return
    with pytest.raises(ConfigError, match=r"training\.anneal"):
        load_config("phi4-quick", changes)
