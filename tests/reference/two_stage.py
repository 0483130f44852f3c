"""Two-stage models in Python floats, without tensors and batches: SIM (arXiv:2006.05639), TWIN (arXiv:2302.02352)."""

import math
from collections.abc import Sequence

Vector = Sequence[float]
Matrix = Sequence[Vector]


def dot(x: Vector, y: Vector) -> float:
    return sum(a * b for a, b in zip(x, y, strict=True))


def project(x: Vector, matrix: Matrix) -> list[float]:
    """Wᵀ x for W as [D][width]."""
    return [sum(x[d] * matrix[d][j] for d in range(len(x))) for j in range(len(matrix[0]))]


def part(x: Vector, heads: int, head: int) -> Vector:
    """A head's share of a projection."""
    size = len(x) // heads
    return x[head * size : (head + 1) * size]


def best(scores: Vector, real: Sequence[bool], k: int) -> list[int]:
    """Positions of the k largest scores of real events, found by sorting; of equal scores, the latest."""
    found = [place for place in range(len(scores)) if real[place] and scores[place] > -math.inf]
    return sorted(found, key=lambda place: (-scores[place], -place))[:k]


def softmax(logits: Vector) -> list[float]:
    top = max(logits)
    exponentials = [math.exp(x - top) for x in logits]
    return [x / sum(exponentials) for x in exponentials]


def weighted_mean(logits: Vector, rows: Matrix, width: int) -> list[float]:
    """softmax(logits)ᵀ rows; zeros without rows."""
    if not rows:
        return [0.0] * width
    weights = softmax(logits)
    return [sum(w * row[d] for w, row in zip(weights, rows, strict=True)) for d in range(width)]


def multi_head(w_q: Matrix, w_k: Matrix, heads: int, target: Vector, events: Matrix) -> list[float]:
    """head^h = Σ_k softmax_k(q^h · k^h / √d_k) z_k, heads one after the other."""
    query, out = project(target, w_q), []
    scale = math.sqrt(len(query) // heads)
    for head in range(heads):
        mine = part(query, heads, head)
        logits = [dot(mine, part(project(event, w_k), heads, head)) / scale for event in events]
        out += weighted_mean(logits, events, len(w_k))
    return out


def search_score(w_a: Matrix, w_b: Matrix, target: Vector, event: Vector) -> float:
    """SIM's soft search: r = (W_b e_l)·(W_a e_t) / √h."""
    query = project(target, w_a)
    return dot(project(event, w_b), query) / math.sqrt(len(query))


def search_sum(w_a: Matrix, w_b: Matrix, target: Vector, events: Matrix) -> list[float]:
    """SIM's U = Σ_l r_l e_l."""
    scores = [search_score(w_a, w_b, target, event) for event in events]
    return [
        sum(r * event[d] for r, event in zip(scores, events, strict=True))
        for d in range(len(target))
    ]


def twin_alpha(
    w_q: Matrix,
    w_h: Matrix,
    beta: Matrix,
    heads: int,
    target: Vector,
    inherent: Matrix,
    cross: Matrix,
) -> list[list[float]]:
    """TWIN: α^h_l = (W_hᵀ e_l)^h · (W_qᵀ e_t)^h / √d_k + c_l · β^h, as [H][L]."""
    query = project(target, w_q)
    scale = math.sqrt(len(query) // heads)
    return [
        [
            dot(part(project(e, w_h), heads, head), part(query, heads, head)) / scale
            + dot(c, [row[head] for row in beta])
            for e, c in zip(inherent, cross, strict=True)
        ]
        for head in range(heads)
    ]


def twin_attention(w_v: Sequence[Matrix], w_o: Matrix, alpha: Matrix, rows: Matrix) -> list[float]:
    """TWIN: [softmax(α^1)ᵀ K W_v^1 ⊕ …] W_o over the chosen rows K = [K_h | K_c]."""
    heads: list[float] = []
    for logits, values in zip(alpha, w_v, strict=True):
        projected = [project(row, values) for row in rows]
        heads += weighted_mean(logits, projected, len(values[0]))
    return project(heads, w_o)
