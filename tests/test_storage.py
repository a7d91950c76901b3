"""Files that survive a crash: what was saved comes back, and nothing half written stands in its place."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from latflow.errors import CheckpointError
from latflow.storage import _digest, load_tree, replacing, save_tree, write_text

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
trees = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab/~0.", max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@given(tree=st.dictionaries(st.text(max_size=5).filter(lambda key: key != "__tensor__"), trees, max_size=4))
def test_plain_trees_come_back(tmp_path_factory, tree):
    path = tmp_path_factory.getbasetemp() / "plain.safetensors"
    save_tree(path, tree)
    assert same(load_tree(path), tree)


def test_tensors_come_back_bit_for_bit(tmp_path):
    storage = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    tree = {
        "views of one storage": [storage, storage.T, storage[:, ::2], storage],
        "nested": {"weight": storage.double() / 3, "empty": torch.empty(0, 3), "scalar": torch.tensor(1 / 3)},
        "a/b": torch.zeros(1),
        "a": {"b": torch.ones(1)},
        "generator": torch.Generator().manual_seed(5).get_state(),
        "kinds": [torch.tensor([True, False]), torch.arange(3), torch.ones(2, dtype=torch.bfloat16)],
        "number": 0.1,
        "infinite": math.inf,
        "large": 2**70,
    }
    path = tmp_path / "new folder" / "tree.safetensors"
    save_tree(path, tree)
    assert same(load_tree(path), tree)
    assert [file.name for file in path.parent.iterdir()] == ["tree.safetensors"]


def test_saved_tensors_are_copies_without_graph(tmp_path):
    parameter = torch.nn.Parameter(torch.ones(3))
    save_tree(tmp_path / "a", {"p": parameter})
    with torch.no_grad():
        parameter.add_(1)
    loaded = load_tree(tmp_path / "a")["p"]
    assert torch.equal(loaded, torch.ones(3))
    assert not loaded.requires_grad
    loaded.add_(1)
    assert torch.equal(load_tree(tmp_path / "a")["p"], torch.ones(3))


def test_number_keys_become_strings_and_tuples_lists(tmp_path):
    save_tree(tmp_path / "a", {"state": {0: torch.ones(1), 1: (1, 2)}})
    assert same(load_tree(tmp_path / "a"), {"state": {"0": torch.ones(1), "1": [1, 2]}})


@pytest.mark.parametrize(
    "tree", [{"a": {"b": object()}}, {"a": {1: 0, "1": 0}}, {"a": {"__tensor__": "x"}}, {"a": {1, 2}}]
)
def test_what_cannot_be_stored_is_refused(tmp_path, tree):
    with pytest.raises(TypeError, match="expected"):
        save_tree(tmp_path / "a", tree)
    assert not any(tmp_path.iterdir())


def test_missing_truncated_and_foreign_files_are_named(tmp_path):
    whole = tmp_path / "whole"
    save_tree(whole, {"x": torch.ones(100), "y": 1})
    contents = whole.read_bytes()
    foreign = tmp_path / "foreign"
    save_file({"x": torch.ones(1)}, foreign)
    damaged = {"empty": b"", "text": b"a text, and no checkpoint at all", "zeros": bytes(64)}
    damaged |= {f"cut {n}": contents[:n] for n in (1, 8, 20, len(contents) - 1)}
    for name, some in damaged.items():
        (tmp_path / name).write_bytes(some)
        with pytest.raises(CheckpointError, match=name):
            load_tree(tmp_path / name)
    for name in ("missing", "foreign"):
        with pytest.raises(CheckpointError, match=name):
            load_tree(tmp_path / name)
    with pytest.raises(CheckpointError, match=tmp_path.name):
        load_tree(tmp_path)


@pytest.mark.parametrize("skeleton", ['{"a": {"__tensor__": "/b"}}', '{"a": '])
def test_a_tree_that_does_not_fit_its_tensors_is_refused(tmp_path, skeleton):
    save_file({"/a": torch.ones(1)}, tmp_path / "odd", metadata={"latflow_tree": skeleton})
    with pytest.raises(CheckpointError, match="odd"):
        load_tree(tmp_path / "odd")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "tree"
    save_tree(path, {"x": 1})

    def full(self: Path, contents: bytes) -> int:
        with self.open("wb") as file:
            file.write(contents[: len(contents) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        save_tree(path, {"x": 2})
    assert load_tree(path) == {"x": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["tree"]


def test_an_interrupt_leaves_the_old_file(tmp_path):
    write_text(tmp_path / "note", "φ⁴")

    def interrupted() -> None:
        with replacing(tmp_path / "note") as temporary:
            temporary.write_text("half", encoding="utf-8")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (tmp_path / "note").read_text(encoding="utf-8") == "φ⁴"
    assert [file.name for file in tmp_path.iterdir()] == ["note"]


def test_a_digest_knows_names_types_shapes_and_numbers():
    """Each of these trees differs from the first in one of them, or in what is around."""
    zeros = torch.zeros(2, 3)
    others = [
        ("{}", {"b": zeros}),
        ("{}", {"a": zeros.to(torch.int32)}),  # of the same bytes
        ("{}", {"a": zeros.T}),
        ("{}", {"a": zeros.index_fill(0, torch.tensor([1]), 1.0)}),
        ("[]", {"a": zeros}),
    ]
    assert len({_digest(skeleton, tensors) for skeleton, tensors in [("{}", {"a": zeros}), *others]}) == 6


def test_keys_that_look_like_paths_have_places_of_their_own(tmp_path):
    path, one = tmp_path / "tree.safetensors", torch.ones(1)
    tree = {"a/b": one, "a": {"b": 2 * one}, "a~1b": 3 * one, "a~0b": 4 * one, "a~b": 5 * one}
    save_tree(path, tree)
    assert same(load_tree(path), tree)


def test_text_has_its_letters_whatever_the_locale(tmp_path):
    write_text(tmp_path / "text", "φ⁴ – ä")
    assert (tmp_path / "text").read_bytes() == "φ⁴ – ä".encode()
