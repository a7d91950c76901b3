"""Configurations: what is legal, what an error says, and that a file gives back what was put in."""

import dataclasses
import inspect
import tomllib
from pathlib import Path

import pytest

from latflow.actions import Ising, Schwinger, U1Gauge
from latflow.autoregressive import DENSITIES, build_density
from latflow.config import differences, load_config, parse_config, preset_names, to_toml
from latflow.config.stages import AnnealConfig, EstimatorName, ScheduleConfig, TrainingConfig
from latflow.config.theories import (
    AffineFlowConfig,
    ConvolutionalConfig,
    DenseConfig,
    GaugeFlowConfig,
    HierarchicalConfig,
    HoppingPhi4Config,
    IsingConfig,
    MinimalFlowConfig,
    Phi4Config,
    SchwingerConfig,
    SplineFlowConfig,
    U1Config,
)
from latflow.errors import ConfigError
from latflow.estimators import ESTIMATORS
from latflow.samplers import SingleSpin, SwendsenWang, Wolff
from latflow.training import Anneal, Schedule, Trainer

SMALLEST = """
[action]
type = "phi4"
lattice = [4, 6]
m2 = 1
lam = 0.5
[flow]
type = "affine"
layers = 2
hidden = [4]
"""


@pytest.mark.parametrize("name", preset_names())
def test_presets_describe_runs(name):
    config = load_config(name)
    assert config.name == name
    assert config.description
    assert build_density(config.flow_recipe()).lattice == config.action.build().lattice


@pytest.mark.parametrize("name", preset_names())
def test_a_configuration_survives_its_file(name):
    config = load_config(name, ["training.clip=0.5", "compute.threads=1"])
    again = parse_config(tomllib.loads(to_toml(config)))
    assert again == config
    assert differences(again, config) == []


def test_a_file_is_named_after_itself(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(SMALLEST)
    config = load_config(path)
    assert config.name == "mine"
    assert config.action.lattice == (4, 6)
    assert load_config(str(path), ["name=yours"]).name == "yours"


@pytest.mark.parametrize(
    ("builder", "section"),
    [
        ("affine", AffineFlowConfig), ("spline", SplineFlowConfig), ("gauge", GaugeFlowConfig),
        ("minimal", MinimalFlowConfig), ("dense", DenseConfig),
        ("convolutional", ConvolutionalConfig), ("hierarchical", HierarchicalConfig),
    ],
)  # fmt: skip
def test_flow_sections_are_the_arguments_of_the_builders(builder, section):
    signature = inspect.signature(DENSITIES[builder]).parameters
    defaults = {name: p.default for name, p in signature.items() if name not in ("lattice", "generator")}
    assert section(type=builder).model_dump(exclude={"type"}) == defaults


def test_training_sections_are_the_arguments_of_the_trainer():
    assert ScheduleConfig().model_dump() == dataclasses.asdict(Schedule())
    assert AnnealConfig(start=0.5, steps=3).build() == Anneal(0.5, 3)
    signature = inspect.signature(Trainer).parameters
    fields = TrainingConfig.model_fields
    assert set(fields) - {"checkpoint_every"} == set(signature) - {"density", "action", "generator"}
    for name in ("learning_rate", "betas", "optimizer", "weight_decay", "clip", "sub_batch", "max_skipped"):
        assert fields[name].default == signature[name].default


def test_estimators_are_those_of_the_library():
    assert set(EstimatorName.__args__) == set(ESTIMATORS)


def test_sections_build_actions():
    phi4 = Phi4Config(type="phi4", lattice=(4, 6), m2=1.0, lam=0.5).build()
    assert (phi4.lattice, phi4.m2, phi4.lam) == ((4, 6), 1.0, 0.5)
    hopping = HoppingPhi4Config(type="hopping_phi4", lattice=(4, 6), beta=0.6, lam=0.5).build()
    assert (hopping.beta, hopping.lam) == (0.6, 0.5)
    assert U1Config(type="u1", lattice=(4, 8), beta=2.0).build() == U1Gauge((4, 8), 2.0)
    arguments = {"lattice": (4, 8), "beta": 2.0, "kappa": 0.2, "flavours": 1, "boundary": "periodic"}
    assert SchwingerConfig(type="schwinger", **arguments).build() == Schwinger(**arguments)
    assert SchwingerConfig(type="schwinger", lattice=(4, 4), beta=2.0, kappa=0.2).build() == Schwinger(
        (4, 4), 2.0, 0.2
    )


def test_couplings_are_nested_lists(tmp_path):
    couplings = [[[1.0, -0.5], [0.25, 2.0]], [[1.0, 1.0], [1.0, -1.0]]]
    config = load_config("ising-8x8", ["action.lattice=[2, 2]", f"action.couplings={couplings}"])
    assert config.action.build() == Ising((2, 2), 0.44068679, couplings=couplings)
    again = parse_config(tomllib.loads(to_toml(config)))
    assert again == config
    assert IsingConfig(type="ising", lattice=(4,), beta=0.3, field=0.2).build() == Ising((4,), 0.3, 0.2)


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("wolff", Wolff), ("swendsen_wang", SwendsenWang),
        ("heat_bath", lambda action: SingleSpin(action, "heat_bath")),
        ("metropolis", lambda action: SingleSpin(action, "metropolis")),
    ],
)  # fmt: skip
def test_spins_have_a_classical_chain_beside_them(algorithm, expected):
    config = load_config("ising-8x8", [f"classical.algorithm={algorithm}"])
    action = config.action.build()
    assert config.beside is config.classical
    assert config.hmc is None
    assert config.classical.build(action) == expected(action)
    assert "[hmc]" not in to_toml(config)
    assert "[classical]" not in to_toml(load_config("u1"))
    assert load_config("u1").beside is not None
    assert parse_config(tomllib.loads(SMALLEST) | {"name": "x"}).beside.target_acceptance == 0.8


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["hmc.steps=3"],
            "hmc: spins have no force: the chain beside the action ising is set in [class",
        ),
        (
            ["training.estimator=path_gradient"],
            "training: spins have no derivative: expected an estimator",
        ),
        (["training.estimator=reparametrization"], "score, reinforce, reinforce_leave_one_out, got reparam"),
        (["flow.type=gauge"], "flow: expected a network of spins for the action ising, got gauge, a flow of"),
        (["flow.type=dense", "flow.coupling=0.3"], "flow.coupling: unknown key"),
        (["action.lattice=[8]"], "flow: expected a lattice of two sides"),
        (["action.lattice=[1, 8]"], "action: expected sides of at least 2 for spins"),
        (
            ["action.couplings=[[1.0]]"],
            "action: expected finite couplings of shape (2, 8, 8), got",
        ),
        (["action.field=0.1"], "flow: expected z2 = false for an action with an external field"),
        (["classical.algorithm=glauber"], "classical.algorithm: expected 'wolff', 'swendsen_wang'"),
        (["classical.algoritm=wolff"], "classical.algoritm: unknown key; did you mean algorithm?"),
        (
            ["classical.algorithm=heat_bath", "action.lattice=[3, 4]"],
            "classical: a checkerboard needs even sides",
        ),
        (["training.anneal.steps=2000"], "training: expected fewer steps of annealing than of training"),
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
        ("u1", ["sampling.kernels=['hops']"], "sampling.kernels: expected a kernel that moves within topolo"),
        (
            "u1",
            ["sampling.kernels=['hmc', 'hops', 'hmc']"],
            "sampling.kernels: expected each kernel once, got h",
        ),
        (
            "u1",
            ["sampling.kernels=['hcm']"],
            "sampling.kernels: expected 'proposals', 'hmc', 'flowed_hmc' or 'h",
        ),
        ("u1", ["sampling.kernels=hmc"], "sampling.kernels: expected a valid tuple, got 'hmc'"),
        (
            "phi4-8x8",
            ["sampling.kernels=['hmc', 'hops']"],
            "sampling.kernels: expected proposals or hmc or flowed_hmc for the action phi4, got hops",
        ),
        (
            "ising-8x8",
            ["sampling.kernels=['proposals', 'hmc', 'flowed_hmc', 'hops']"],
            "sampling.kernels: expected proposals for the action ising, got hmc, flowed_hmc, hops",
        ),
        (
            "u1",
            ["sampling.flowed_hmc.jitter=0.1"],
            "sampling: expected flowed_hmc among the kernels where [sampling.flowed_hmc] is set",
        ),
        (
            "u1",
            ["sampling.kernels=['flowed_hmc']", "sampling.flowed_hmc.steps=3"],
            "sampling.flowed_hmc.steps: unknown key; expected one of trajectory_length, target_acceptance",
        ),
        ("u1", ["hmc.fourier_mass=0.5"], "hmc: expected no fourier_mass for links, got 0.5"),
        ("phi4-8x8", ["hmc.fourier_mass=0.0"], "hmc.fourier_mass: expected greater than 0, got 0.0"),
        (
            "u1",
            ["hmc.trajectory_length=[1.0, 2.0]"],
            "hmc: expected one trajectory_length for links: several",
        ),
        ("phi4-8x8", ["hmc.trajectory_length=[]"], "hmc.trajectory_length: "),
        ("phi4-8x8", ["hmc.trajectory_length=[1.0, -2.0]"], "hmc.trajectory_length: "),
        (
            "phi4-8x8",
            ["hmc.trajectory_length=-1.0"],
            "hmc.trajectory_length: expected greater than 0, got -1.0",
        ),
        (
            "phi4-8x8",
            ["sampling.kernels=['hmc']", "sampling.chains=1", "hmc.trajectory_length=[1.0, 2.0]"],
            "hmc: expected at least 2 chains to compare trajectory lengths, got 1",
        ),
        (
            "u1",
            ["sampling.kernels=['flowed_hmc']", "sampling.flowed_hmc.trajectory_length=[1.0, 2.0]"],
            "sampling.flowed_hmc: expected one trajectory_length for links",
        ),
    ],
)
def test_kernels_that_make_no_chain_are_named(preset, overrides, message):
    with pytest.raises(ConfigError) as caught:
        load_config(preset, overrides)
    assert message in str(caught.value)


def test_kernels_and_their_trajectories():
    plain = load_config("phi4-8x8")
    assert (plain.sampling.kernels, plain.sampling.flowed_hmc) == (("proposals",), None)
    assert "flowed_hmc" not in to_toml(plain)
    changes = [
        "sampling.kernels=['hmc', 'flowed_hmc']",
        "hmc.trajectory_length=[1, 2.5]",
        "hmc.fourier_mass=2",
    ]
    config = load_config("phi4-8x8", changes)
    assert config.hmc.lengths == (1.0, 2.5)
    assert config.hmc.fourier_mass == 2.0
    assert config.sampling.flowed_hmc.lengths == (1.0,)
    assert not config.sampling.proposes
    again = parse_config(tomllib.loads(to_toml(config)))
    assert again == config
    assert "sampling.kernels: ('proposals',) and ('hmc', 'flowed_hmc')" in differences(plain, config)
    # one chain is enough where the kernel alone takes the lengths, and it has more
    alone = ["hmc.chains=1", "hmc.enabled=false", "sampling.kernels=['hmc']", "hmc.trajectory_length=[1, 2]"]
    assert load_config("phi4-8x8", alone).hmc.chains == 1


def test_a_classical_chain_is_for_spins_alone():
    with pytest.raises(ConfigError, match=r"classical: it is for spins alone: .* u1 is set in \[hmc\]"):
        load_config("u1", ["classical.steps=3"])
    odd = ["action.lattice=[3, 4]", "classical.algorithm=heat_bath", "classical.enabled=false"]
    assert load_config("ising-8x8", odd).classical.enabled is False


LINKS = """
[action]
type = "u1"
lattice = [4, 8]
beta = 2
[flow]
type = "gauge"
layers = 1
hidden = [4]
kernel = [3, 1]
dilation = 1
"""


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["flow.type=affine"], "flow.masks: unknown key"),
        (["action.lattice=[4, 6]"], "flow: "),
        (["action.lattice=[4, 4, 4]"], "action: expected a lattice of two sides"),
        (["action.kappa=0.2"], "action.kappa: unknown key"),
        (["flow.rectangles=some"], "flow.rectangles: expected 'none', 'frozen' or 'all', got 'some'"),
        (["reference.magnetization='0.0(1)'"], "reference: expected names out of log_z, plaquette, charge"),
        (["action.type=schwinger"], "action.kappa: expected a value, got none"),
        (["action.type=schwinger", "action.kappa=0.2", "action.flavours=0"], "action.flavours: expected "),
        (["action.type=schwinger", "action.kappa=0.2", "action.boundary=open"], "action.boundary: expected "),
    ],
)
def test_what_is_wrong_with_links_is_named(tmp_path, overrides, message):
    path = tmp_path / "links.toml"
    path.write_text(LINKS + 'masks = "stripes"\n')
    assert load_config(path).flow.masks == "stripes"
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    assert message in str(caught.value)


def test_flows_are_for_their_kind_of_field(tmp_path):
    path = tmp_path / "mixed.toml"
    action, flow = LINKS.split("[flow]")
    path.write_text(action + SMALLEST[SMALLEST.index("[flow]") :])
    with pytest.raises(
        ConfigError, match="flow: expected a flow of links for the action u1, got affine, a flow of a scalar"
    ):
        load_config(path)
    path.write_text(SMALLEST[: SMALLEST.index("[flow]")] + "[flow]" + flow)
    with pytest.raises(ConfigError, match="flow: expected a flow of a scalar field for the action phi4, got"):
        load_config(path)


def test_references_are_names_of_the_kind(tmp_path):
    path = tmp_path / "links.toml"
    path.write_text(LINKS + '[reference]\ncharge_squared = "1.24(1)"\npion_mass_1 = "0.5(1)"\n')
    assert set(load_config(path).reference) == {"charge_squared", "pion_mass_1"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.bacth=3", "training.bacth: unknown key; did you mean batch?"),
        ("foo.bar=1", "foo: unknown key; expected one of name, "),
        ("training.batch=many", "training.batch: expected a valid integer, got 'many'"),
        ("training.batch=1.5", "training.batch: expected a valid integer, got 1.5"),
        ("training.batch=true", "training.batch: expected a valid integer, got True"),
        ("training.batch=0", "training.batch: expected greater than 0, got 0"),
        ("training.learning_rate=nan", "training.learning_rate: expected a finite number, got nan"),
        ("training.schedule.floor=2.0", "training.schedule: expected 0 ≤ floor ≤ 1"),
        ("training.schedule.flor=0.1", "training.schedule.flor: unknown key; did you mean floor?"),
        ("training.estimator=g3", "training.estimator: expected 'score', 'reinforce'"),
        ("flow.type=splin", "flow: expected type 'affine', 'spline', 'minimal', 'gauge', 'dense'"),
        ("flow.bin=4", "flow.bin: unknown key; did you mean bins?"),
        ("flow.kernel=wide", "flow.kernel: expected a valid integer, got 'wide'"),
        ("flow.activation=cosine", "flow: expected activation"),
        ("action.lattice=[7, 8]", "flow: a checkerboard needs even side"),
        ("action.lattice=[]", "action: expected a lattice of one to three positive side lengths, got ()"),
        ("action.lattice=8", "action.lattice: expected a valid tuple, got 8"),
        ("action.m2=null", "action.m2: expected a value, got none"),
        ("compute.device=gpu", "compute.device: expected 'auto', 'cpu', 'cuda'"),
        ("compute.dtype=float16", "compute.dtype: expected 'float32' or 'float64'"),
        ("reference.log_z=9.3", "reference: expected a valid string, got 9.3"),
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


def test_all_faults_come_at_once():
    with pytest.raises(ConfigError) as caught:
        load_config("phi4-8x8", ["training.batch=a", "hmc.steps=b"])
    assert "training.batch: " in str(caught.value)
    assert "hmc.steps: " in str(caught.value)


def test_overrides_are_toml():
    changes = ["flow.hidden=[4, 4]", "compute.device=cpu", "training.clip=null", "flow.fourier=false"]
    config = load_config("phi4-8x8", changes)
    assert config.flow.hidden == (4, 4)
    assert config.compute.device == "cpu"
    assert config.training.clip is None
    assert config.flow.fourier is False
    assert differences(config, load_config("phi4-8x8", changes[:3])) == ["flow.fourier: False and True"]


def test_an_unknown_preset_lists_the_presets(tmp_path):
    with pytest.raises(ConfigError, match="phi4-8x8"):
        load_config("phi5")
    with pytest.raises(ConfigError, match="expected a preset or a TOML file"):
        load_config(tmp_path)


def test_a_file_that_is_no_toml(tmp_path):
    path = Path(tmp_path / "broken.toml")
    path.write_text("batch 3")
    with pytest.raises(ConfigError, match=r"broken\.toml is no TOML"):
        load_config(path)


def test_weight_decay_is_for_adamw_alone():
    with pytest.raises(ConfigError, match="adamw"):
        load_config("phi4-quick", ["training.weight_decay=0.1"])
    decayed = load_config("phi4-quick", ["training.weight_decay=0.1", "training.optimizer=adamw"])
    assert decayed.training.weight_decay == 0.1
