"""Attention to every event, by kernel and by φ, against loops."""

import torch

from models.blocks.attention import target_score
from models.contract.schema import PADDING
from models.readers.kernel import KernelReader
from models.readers.phi import PhiReader
from tests.models.readers.arrange import (
    LAYOUT,
    LENGTH,
    assert_equals_loops,
    candidates,
    history,
    read,
    settled,
)
from tests.reference.attention import Weights, attend, kernel


def kernel_reader(heads: int = 3) -> KernelReader:
    reader = settled(KernelReader(LENGTH, LAYOUT.widths, heads))
    assert isinstance(reader, KernelReader)
    return reader


def phi_reader() -> PhiReader:
    reader = settled(PhiReader(LENGTH, LAYOUT.widths, hidden=6, heads=2, slope=0.1))
    assert isinstance(reader, PhiReader)
    return reader


def test_the_kernel_equals_its_equation():
    reader, events, wanted = kernel_reader(), history(), candidates()
    worth = reader.ages(events.ages).mT  # (B, H, L)
    tau = reader.kernel.tau().tolist()
    assert_equals_loops(
        read(reader, events, wanted),
        events,
        wanted,
        lambda user, target: kernel(
            tau, target, events.vectors[user].tolist(), LAYOUT.widths, worth[user].tolist()
        ),
    )


def test_a_mass_starts_as_a_soft_count_of_its_heads_field():
    reader = KernelReader(LENGTH, LAYOUT.widths, 2).double()
    events, wanted = history(), candidates()
    same_item = events.rows[:, None] == wanted.rows[..., None]
    mass = read(reader, events, wanted).mass[..., 0]
    counts = same_item.sum(-1)
    assert (mass[counts > 0] > 0.9 * counts[counts > 0]).all()
    assert mass[counts == 0].max() < 0.9


def test_phi_equals_its_equation():
    reader, events, wanted = phi_reader(), history(), candidates()
    score = reader.aged.score
    names = ("w_1", "w_2", "w_3", "bias", "w_o")
    weights = Weights(**{name: getattr(score, name).tolist() for name in names}, slope=0.1)
    assert score.w_s is not None
    extra = reader.aged.ages[events.ages] @ score.w_s
    real = (events.rows != PADDING).double()
    assert_equals_loops(
        read(reader, events, wanted),
        events,
        wanted,
        lambda user, target: attend(
            weights,
            target,
            events.vectors[user].tolist(),
            events.vectors[user].tolist(),
            real[user].tolist(),
            extra[user].tolist(),
        ),
    )


def test_phi_does_not_depend_on_how_many_users_are_computed_at_a_time(monkeypatch):
    reader, events, wanted = phi_reader(), history(), candidates()
    expected = read(reader, events, wanted)
    for floats in (1, 3 * LENGTH * 5 * 6, 1 << 30):
        monkeypatch.setattr(target_score, "CACHE_FLOATS", floats)
        got = read(reader, events, wanted)
        torch.testing.assert_close(got.mass, expected.mass)
        torch.testing.assert_close(got.pooled, expected.pooled)
