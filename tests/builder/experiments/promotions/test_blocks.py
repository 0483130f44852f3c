"""Blocks against loops over events, and what holds for all of them."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from builder.experiments.promotions.blocks.base import HEADS, Block, Candidates, History
from builder.experiments.promotions.blocks.counts import Counts, Sketch
from builder.experiments.promotions.blocks.hash_slots import HashSlots
from builder.experiments.promotions.blocks.kernel import Kernel
from builder.experiments.promotions.blocks.pooling import Linear, Mean
from builder.experiments.promotions.blocks.position_slots import PaperSlots, PositionSlots
from builder.experiments.promotions.blocks.random_features import RandomFeatures
from builder.experiments.promotions.blocks.search import (
    KEPT,
    CategorySearch,
    Collisions,
    KernelSearch,
)
from builder.experiments.promotions.blocks.slot_kernel import AnchorSlots, ClusterSlots, SlotKernel
from builder.experiments.promotions.blocks.target_score import SLOPE, UNITS, TargetScore
from builder.experiments.promotions.embeddings import DIM, WIDTHS, Items, take_rows
from builder.experiments.promotions.prepared import Prepared
from builder.experiments.promotions.rows import ROWS, Parts, build, find_anchors
from builder.experiments.promotions.task import Task

LENGTH = 80
EDGES = [0, *torch.tensor(WIDTHS).cumsum(0).tolist()]


@pytest.fixture
def world(prepared: Prepared) -> tuple[Items, History, Candidates, Task]:
    torch.manual_seed(0)
    task = Task(prepared, torch.device("cpu"), LENGTH)
    items = Items(torch.from_numpy(prepared.item_fields).long())
    slates, _ = task.whole(task.parts["test"][:5], 40)
    with torch.no_grad():
        table = items.table()
    history = History(slates.rows, slates.ages, take_rows(table, slates.index), table)
    return items, history, Candidates(slates.items, take_rows(table, slates.items)), task


def _read(block: Block, history: History, candidates: Candidates) -> tuple[Tensor, Tensor]:
    block.eval()
    with torch.no_grad():
        read = block.read(block.encode(history), candidates)
    return read.mass, read.pooled


def _shake(block: Block) -> None:
    """Weights that are not at their neutral start."""
    with torch.no_grad():
        for weight in block.parameters():
            weight.add_(0.1 * torch.randn_like(weight))


def _cosines(left: Tensor, right: Tensor) -> list[float]:
    return [float(left[a:b] @ right[a:b]) for a, b in pairwise(EDGES)]


def test_kernel_is_the_sum_over_events(world):
    _, history, candidates, _ = world
    block = Kernel()
    _shake(block)
    mass, pooled = _read(block, history, candidates)
    tau, bias = block.kernel.tau().detach(), block.ages.bias.detach()
    for b, c in ((0, 0), (1, 7), (4, 29)):
        for h in range(HEADS):
            total, summed = 0.0, torch.zeros(DIM)
            for l in range(LENGTH):  # noqa: E741 - the axis letter
                if history.rows[b, l] == 0:
                    continue
                cosines = _cosines(candidates.vectors[b, c], history.events[b, l])
                exponent = sum(float(tau[h, f]) * (x - 1) for f, x in enumerate(cosines))
                w = math.exp(exponent + float(bias[history.ages[b, l], h]))
                total, summed = total + w, summed + w * history.events[b, l]
            assert mass[b, c, h].item() == pytest.approx(total, rel=1e-3)
            ours = pooled[b, c].view(HEADS, DIM)[h]
            assert torch.allclose(ours, summed / (1 + total), rtol=1e-3, atol=1e-5)


def test_a_head_starts_as_a_soft_count_of_its_field(world):
    _, history, candidates, _ = world
    mass, _ = _read(Kernel(), history, candidates)
    exact, _ = _read(Counts(torch.as_tensor(world[0].item_fields)), history, candidates)
    # The id's head sees each repeat of the item, and little of anything else.
    assert (
        torch.corrcoef(torch.stack([mass[..., 0].flatten(), exact[..., 0].flatten()]))[0, 1] > 0.95
    )


def test_din_is_the_sum_over_events(world):
    _, history, candidates, _ = world
    block = TargetScore()
    _shake(block)
    mass, _ = _read(block, history, candidates)
    s = block.score
    for b, c in ((0, 3), (3, 11)):
        total = torch.zeros(HEADS)
        e_t = candidates.vectors[b, c]
        for l in range(LENGTH):  # noqa: E741
            if history.rows[b, l] == 0:
                continue
            e_l = history.events[b, l]
            z = (
                e_t @ s.w_1
                + e_l @ s.w_2
                + (e_t * e_l) @ s.w_3
                + block.ages[history.ages[b, l]]
                + s.bias
            )
            z = torch.where(z > 0, z, SLOPE * z).view(HEADS, UNITS)
            total += (z * s.w_o).sum(1)
        assert torch.allclose(mass[b, c], total, rtol=1e-3, atol=1e-3)


def test_counts_and_sketch(world, prepared: Prepared):
    items, history, candidates, _ = world
    mass, _ = _read(Counts(items.item_fields), history, candidates)
    sketched, _ = _read(Sketch(items.item_fields), history, candidates)
    fields = prepared.item_fields
    for b in range(5):
        rows = history.rows[b][history.rows[b] > 0].tolist()
        for c, item in enumerate(candidates.rows[b].tolist()):
            assert mass[b, c, 0] == rows.count(item)
            for k, column in ((1, 0), (2, 1), (3, 3)):
                wanted = fields[item, column]
                same = sum(fields[row, column] == wanted for row in rows) * (wanted > 1)
                assert mass[b, c, k] == same
    assert (sketched >= mass - 1e-4).all()  # never below the count
    assert (sketched == mass).float().mean() > 0.9


def test_search_keeps_the_best_events_only(world):
    items, history, candidates, _ = world
    for block in (KernelSearch(), CategorySearch(items.item_fields)):
        state = block.encode(history)
        exponent = block.kernel.exponent(candidates.vectors, state["events"], state["log_age"])
        chosen = block._choose(block.score(state, candidates, exponent), state["rows"])
        size = (history.rows > 0).sum(1)
        assert (chosen.sum(-1) <= size.clamp(max=KEPT)[:, None]).all()
        assert not (chosen * (history.rows == 0)[:, None]).any()
        if isinstance(block, CategorySearch):
            there = items.item_fields[history.rows, 1][:, None]
            same = (there == items.item_fields[candidates.rows, 1][..., None]) & (history.rows > 0)[
                :, None
            ]
            assert torch.equal(chosen > 0, same)  # fewer than K of a category here: all of them


def test_twin_is_the_kernel_where_k_is_enough(world):
    _, history, candidates, _ = world
    short = History(
        history.rows[:, -KEPT:], history.ages[:, -KEPT:], history.events[:, -KEPT:], history.table
    )
    for left, right in zip(
        _read(KernelSearch(), short, candidates), _read(Kernel(), short, candidates), strict=True
    ):
        assert torch.allclose(left, right, rtol=1e-4, atol=1e-5)


def test_sdim_is_the_share_of_equal_signatures(world):
    _, history, candidates, _ = world
    block = Collisions()
    mass, _ = _read(block, history, candidates)
    for b, c in ((0, 0), (2, 9)):
        target = (candidates.vectors[b, c] @ block.planes > 0).view(-1, 3)
        total = 0.0
        for l in range(LENGTH):  # noqa: E741
            if history.rows[b, l] > 0:
                event = (history.events[b, l] @ block.planes > 0).view(-1, 3)
                total += float((target == event).all(1).float().mean())
        assert mass[b, c, 0].item() == pytest.approx(total, rel=1e-4)


def test_linear_attention_is_the_sum_over_events(world):
    _, history, candidates, _ = world
    block = Linear()
    mass, _ = _read(block, history, candidates)
    q = torch.nn.functional.elu(candidates.vectors[2, 5] @ block.project) + 1  # (H, KEY)
    k = (
        torch.nn.functional.elu(
            history.events[2][history.rows[2] > 0][:, None, None] @ block.project
        )
        + 1
    )
    assert torch.allclose(mass[2, 5], (q * k.squeeze(-2)).sum((0, 2)), rtol=1e-3)


def test_slots_with_one_event_each_are_the_kernel(world):
    """No spread within a slot: the moments are exact."""
    _, history, candidates, _ = world

    class OneEach(SlotKernel):
        def deal(self, history: History) -> Tensor:
            return torch.eye(LENGTH).expand(len(history.rows), -1, -1)

    for left, right in zip(
        _read(OneEach(LENGTH), history, candidates),
        _read(Kernel(), history, candidates),
        strict=True,
    ):
        assert torch.allclose(left, right, rtol=1e-2, atol=1e-4)


def test_clusters_hold_every_event_once_and_padding_never(world):
    _, history, _, _ = world
    for rank in (4, 64, LENGTH):
        share = ClusterSlots(rank).deal(history)
        assert torch.equal(share.sum(-1), (history.rows > 0).float())


def test_clusters_near_the_kernel_when_there_are_many(world):
    _, history, candidates, _ = world
    exact = _read(Kernel(), history, candidates)[0].asinh()
    gaps = [
        (_read(ClusterSlots(rank), history, candidates)[0].asinh() - exact).square().mean().item()
        for rank in (2, 8, 64)
    ]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 0.05


def test_anchor_slots_are_sums_over_events(world, prepared: Prepared):
    """Additive: the state of two halves is the sum of their states."""
    _, history, _, _ = world
    block = AnchorSlots(torch.from_numpy(find_anchors(prepared, 16)))

    def sums(low: int, high: int) -> Tensor:
        part = History(
            history.rows[:, low:high],
            history.ages[:, low:high],
            history.events[:, low:high],
            history.table,
        )
        with torch.no_grad():
            return block.encode(part)["count"]

    assert torch.allclose(sums(0, LENGTH), sums(0, 40) + sums(40, LENGTH), rtol=1e-4, atol=1e-4)


def test_random_features_estimate_the_kernel(world):
    _, history, candidates, _ = world
    torch.manual_seed(1)
    estimate = _read(RandomFeatures(40_000), history, candidates)[0]
    exact = _read(Kernel(), history, candidates)[0]
    assert (estimate - exact).abs().max() < 0.05 * (1 + exact.max())


def test_absorbed_positions_are_slots_of_neighbours(world):
    _, history, candidates, _ = world
    block = PositionSlots(LENGTH, LENGTH)
    ours, full = _read(block, history, candidates)[0], TargetScore()
    full.score.load_state_dict(block.score.state_dict())
    # A slot for each event: DIN itself.
    assert torch.allclose(ours, _read(full, history, candidates)[0], rtol=1e-3, atol=1e-3)


def test_the_paper_s_slots_are_decompressed_in_training_alone(world):
    _, history, candidates, _ = world
    block = PaperSlots(LENGTH, 8)
    served = _read(block, history, candidates)[0]
    block.train()
    with torch.no_grad():
        trained = block.read(block.encode(history), candidates).mass
        negative = block.w_dec.clamp(max=0).square().sum()
    assert not torch.allclose(served, trained, rtol=1e-2)
    assert negative > 0


@pytest.mark.parametrize("label", ROWS)
def test_padding_does_not_change_the_answer(label: str, prepared: Prepared):
    if "position" in label or "lrea" in label:
        pytest.skip("tied to positions: L is part of the model")
    answers = []
    for length in (512, 300):  # no household has more than 240 events
        task = Task(prepared, torch.device("cpu"), length)
        slates, _ = task.whole(task.parts["test"][:4], 40)
        network = build(label, prepared, 3, length).eval()
        with torch.no_grad():
            answers.append(network(slates))
    assert torch.allclose(answers[0], answers[1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("label", ROWS)
def test_every_weight_of_a_row_learns(label: str, prepared: Prepared):
    task = Task(prepared, torch.device("cpu"), 64)
    network = build(label, prepared, 0, 64).train()
    visits = task.parts["train"][:32]
    draws = torch.rand(32, 21, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():  # two weights start at zero and hold others back
        network.wide.weight.fill_(0.1)
    network.loss(task.sample(visits, torch.ones(32), draws)).backward()
    still = [
        name
        for name, weight in network.named_parameters()
        if weight.grad is None or not weight.grad.any()
    ]
    assert still == (["wide.weight"] if label == "none" else [])


def test_the_state_of_a_row_is_no_secret(prepared: Prepared):
    parts = Parts(
        torch.from_numpy(prepared.item_fields).long(),
        torch.from_numpy(find_anchors(prepared, 64)),
        2048,
    )
    sizes = {
        label: [block.state_bytes(2048) for block in row.make(parts)] for label, row in ROWS.items()
    }
    assert sizes["kernel"] == [16384]
    assert sizes["anchor-64"] == [2 * 64 * (DIM + HEADS)]
    assert sizes["mean"] == [2 * (DIM + 1)] == [Mean().state_bytes(2048)]
    assert (
        sizes["hash"]
        == [2 * 128 * (DIM + HEADS)]
        == [HashSlots(parts.item_fields).state_bytes(2048)]
    )
