"""LREA (arXiv:2503.02542v4) Eq. 4, 5, 9 and 10, term by term in Python floats, without tensors and batches."""

from collections.abc import Sequence
from dataclasses import dataclass

Vector = Sequence[float]
Matrix = Sequence[Vector]


@dataclass(frozen=True)
class Weights:
    """W_in in its three blocks [D][h], b [h], W_o as one row of h/H weights per head, slope of φ."""

    w_1: Matrix
    w_2: Matrix
    w_3: Matrix
    bias: Vector
    w_o: Matrix
    slope: float


def phi(x: float, slope: float) -> float:
    return x if x >= 0 else slope * x


def times(x: Vector, matrix: Matrix, column: int) -> float:
    return sum(x[d] * matrix[d][column] for d in range(len(x)))


def hidden(
    w: Weights, form: str, target: Vector, key: Vector, key_bias: Vector, *, with_target: bool
) -> list[float]:
    """φ([e_t ⊕ c ⊕ e_t ⊙ c] W_in) (the left side of Eq. 5), or the sum of φ of each part (its right side)."""
    product = [t * c for t, c in zip(target, key, strict=True)]
    units = []
    for j in range(len(w.bias)):
        own = times(target, w.w_1, j) + w.bias[j]
        if form == "concat":
            total = own + times(key, w.w_2, j) + times(product, w.w_3, j) + key_bias[j]
            units.append(phi(total, w.slope))
        else:
            unit = phi(times(key, w.w_2, j), w.slope) + phi(times(product, w.w_3, j), w.slope)
            units.append(unit + phi(own, w.slope) if with_target else unit)
    return units


def head_weights(w: Weights, units: Vector) -> list[float]:
    """W_oᵀ of the units, block by block: one weight per head."""
    size = len(w.w_o[0])
    return [
        sum(w.w_o[head][j] * units[head * size + j] for j in range(size))
        for head in range(len(w.w_o))
    ]


def attend(
    w: Weights,
    form: str,
    target: Vector,
    keys: Matrix,
    values: Matrix,
    *,
    key_bias: Matrix | None = None,
    total: Vector | None = None,
) -> list[float]:
    """Σ_k v_k · W_oᵀ φ(…), heads one after the other. Eq. 9 over slots; Eq. 3 with Eq. 5 over events."""
    heads, dim = len(w.w_o), len(target)
    out = [0.0] * (heads * dim)
    is_exact = form == "split" and total is not None
    for k, (key, value) in enumerate(zip(keys, values, strict=True)):
        bias = key_bias[k] if key_bias is not None else [0.0] * len(w.bias)
        weight = head_weights(w, hidden(w, form, target, key, bias, with_target=not is_exact))
        for head in range(heads):
            for d in range(dim):
                out[head * dim + d] += weight[head] * value[d]
    if is_exact and total is not None:
        own = [phi(times(target, w.w_1, j) + w.bias[j], w.slope) for j in range(len(w.bias))]
        for head, weight_of_target in enumerate(head_weights(w, own)):
            for d in range(dim):
                out[head * dim + d] += weight_of_target * total[d]
    return out


def compress(events: Matrix, w_comp: Matrix) -> list[list[float]]:
    """E_comp = W_compᵀ E_s, [r][D]."""
    return [
        [
            sum(w_comp[place][k] * e[d] for place, e in enumerate(events))
            for d in range(len(events[0]))
        ]
        for k in range(len(w_comp[0]))
    ]


def auxiliary(events: Matrix, w_decomp: Matrix) -> list[list[float]]:
    """E_auxabsorb = W_decomp E_s, [r][D]."""
    return [
        [sum(row[place] * e[d] for place, e in enumerate(events)) for d in range(len(events[0]))]
        for row in w_decomp
    ]


def decompress(compressed: Matrix, w_decomp: Matrix) -> list[list[float]]:
    """Ê_s = W_decompᵀ E_comp, [L][D] (Eq. 4)."""
    return [
        [
            sum(row[place] * c[d] for row, c in zip(w_decomp, compressed, strict=True))
            for d in range(len(compressed[0]))
        ]
        for place in range(len(w_decomp[0]))
    ]


def non_negativity(w_decomp: Matrix, compressed_of_users: Sequence[Matrix]) -> float:
    """Eq. 10; its second term is per user, so a batch takes their mean."""

    def negative(matrix: Matrix) -> float:
        return sum(max(0.0, -value) ** 2 for row in matrix for value in row)

    users = [negative(compressed) for compressed in compressed_of_users]
    return negative(w_decomp) + sum(users) / len(users)
