# ruff: noqa: PLR0913, PLR0915 - a kernel takes its pointers and sizes one by one
"""Two Triton kernels that score LREA with hash slots: first the attention, then own slots and head. fp32 throughout.

Widths are padded to powers of two with zeros; zeros add nothing to any sum here. Upper-case arguments are compile-time
sizes: R slots, N recent events, D width (DP padded), BC candidates and BK keys of a tile.
"""

try:
    import triton
    import triton.language as tl
except ModuleNotFoundError:
    from loadtest.gpu_check.without_triton import tl, triton


@triton.jit
def _attend(
    acc,
    target,
    values,
    inverse,
    side,
    fold,
    units,
    head,
    D: tl.constexpr,
    DP: tl.constexpr,
    UNITS: tl.constexpr,
    HIDDEN: tl.constexpr,
    SLOPE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Acc + Σ_k w(target, c_k) values_k for one head, c_k = values_k · inverse_k; [BC, DP]."""
    d = tl.arange(0, DP)
    weight = tl.zeros([target.shape[0], values.shape[0]], tl.float32)
    for j in tl.range(UNITS, num_stages=1):  # not unrolled: the loads of all units would spill
        unit = head * UNITS + j
        w_1 = tl.load(fold + unit * D + d, mask=d < D, other=0.0)
        w_2 = tl.load(fold + (HIDDEN + unit) * D + d, mask=d < D, other=0.0)
        w_3 = tl.load(fold + (2 * HIDDEN + unit) * D + d, mask=d < D, other=0.0)
        bias = tl.load(units + unit)
        w_s = tl.load(units + HIDDEN + unit)
        w_o = tl.load(units + 2 * HIDDEN + unit)
        matrix = target * w_3[None, :] + w_2[None, :]
        z = tl.dot(matrix, tl.trans(values), input_precision=PRECISION) * inverse[None, :]
        z += tl.sum(target * w_1[None, :], 1)[:, None] + (side * w_s + bias)[None, :]
        weight += w_o * tl.where(z > 0, z, SLOPE * z)
    return acc + tl.dot(weight, values, input_precision=PRECISION)


@triton.jit(do_not_specialize=["C"])
def attention_kernel(
    items,
    recent,
    slot_of,
    sums,
    counts,
    rows,
    fold,
    units,
    partial,
    C,
    R: tl.constexpr,
    N: tl.constexpr,
    D: tl.constexpr,
    DP: tl.constexpr,
    HEADS: tl.constexpr,
    HIDDEN: tl.constexpr,
    SLOPE: tl.constexpr,
    SPLITS: tl.constexpr,
    STEPS: tl.constexpr,
    BC: tl.constexpr,
    BK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Grid (tiles of candidates, (SPLITS + 1) · HEADS, users). The last split holds the recent events.

    partial[split, head, user, candidate, :] = Σ over the split's keys.
    """
    split = tl.program_id(1) // HEADS
    head = tl.program_id(1) % HEADS
    user = tl.program_id(2)
    c = tl.program_id(0) * BC + tl.arange(0, BC)
    d = tl.arange(0, DP)
    is_candidate = c < C
    item = tl.load(items + user * C + c, mask=is_candidate, other=0)
    at = is_candidate[:, None] & (d < D)[None, :]
    target = tl.load(rows + item[:, None] * D + d[None, :], mask=at, other=0.0)
    acc = tl.zeros([BC, DP], tl.float32)
    if split < SPLITS:
        slab = tl.load(slot_of + user).to(tl.int64)
        for step in range(STEPS):
            k = (split * STEPS + step) * BK + tl.arange(0, BK)
            count = tl.load(counts + slab * R + k, mask=k < R, other=0.0)
            place = (slab * R + k)[:, None] * D + d[None, :]
            inside = (k < R)[:, None] & (d < D)[None, :]
            values = tl.load(sums + place, mask=inside, other=0.0)
            acc = _attend(
                acc,
                target,
                values,
                1.0 / (count + 1e-3),
                tl.log(1.0 + count),
                fold,
                units,
                head,
                D,
                DP,
                HIDDEN // HEADS,
                HIDDEN,
                SLOPE,
                PRECISION,
            )
    else:
        for step in range((N + BK - 1) // BK):
            k = step * BK + tl.arange(0, BK)
            event = tl.load(recent + user * N + k, mask=k < N, other=0)
            inside = (k < N)[:, None] & (d < D)[None, :]
            values = tl.load(rows + event[:, None] * D + d[None, :], mask=inside, other=0.0)
            ones = tl.full([BK], 1.0, tl.float32)
            acc = _attend(
                acc,
                target,
                values,
                ones,
                ones * 0.0,
                fold + 3 * HIDDEN * D,
                units + 3 * HIDDEN,
                head,
                D,
                DP,
                HIDDEN // HEADS,
                HIDDEN,
                SLOPE,
                PRECISION,
            )
    line = ((split * HEADS + head).to(tl.int64) * tl.num_programs(2) + user) * C + c
    tl.store(partial + line[:, None] * D + d[None, :], acc, mask=at)


@triton.jit
def _project(
    x,
    vector,
    weight,
    first,
    D: tl.constexpr,
    DP: tl.constexpr,
    W1: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """X + vector · weight[first : first + D]; [BC, W1]."""
    d = tl.arange(0, DP)
    n = tl.arange(0, W1)
    part = tl.load(
        weight + (first + d)[:, None] * W1 + n[None, :], mask=(d < D)[:, None], other=0.0
    )
    return x + tl.dot(vector, part, input_precision=PRECISION)


@triton.jit
def _user_part(
    recent,
    context_ids,
    state,
    rows,
    profile,
    mean,
    context,
    context_start,
    bias,
    user,
    slab,
    N: tl.constexpr,
    NP: tl.constexpr,
    D: tl.constexpr,
    DP: tl.constexpr,
    P: tl.constexpr,
    PP: tl.constexpr,
    FIELDS: tl.constexpr,
    W1: tl.constexpr,
):
    """First layer of the input that all candidates of a user share; [W1]."""
    n = tl.arange(0, W1)
    d = tl.arange(0, DP)
    k = tl.arange(0, NP)
    event = tl.load(recent + user * N + k, mask=k < N, other=0)
    inside = (k < N)[:, None] & (d < D)[None, :]
    events = tl.load(rows + event[:, None] * D + d[None, :], mask=inside, other=0.0)
    average = tl.sum(events, 0) * (1.0 / N)
    weight = tl.load(mean + d[:, None] * W1 + n[None, :], mask=(d < D)[:, None], other=0.0)
    x = tl.load(bias + n) + tl.sum(average[:, None] * weight, 0)
    p = tl.arange(0, PP)
    known = tl.load(state + slab * P + p, mask=p < P, other=0.0)
    weight = tl.load(profile + p[:, None] * W1 + n[None, :], mask=(p < P)[:, None], other=0.0)
    x += tl.sum(known[:, None] * weight, 0)
    for f in tl.static_range(FIELDS):
        place = tl.load(context_ids + user * FIELDS + f) + tl.load(context_start + f)
        x += tl.load(context + place * W1 + n)
    return x


@triton.jit(do_not_specialize=["C"])
def head_kernel(
    items,
    recent,
    context_ids,
    slot_of,
    state,
    sums,
    counts,
    tallies,
    tallied,
    partial,
    rows,
    keys,
    candidate,
    profile,
    mean,
    context,
    context_start,
    bias,
    hidden,
    hidden_bias,
    out,
    out_bias,
    wide,
    logits,
    C,
    R: tl.constexpr,
    W: tl.constexpr,
    WP: tl.constexpr,
    N: tl.constexpr,
    NP: tl.constexpr,
    D: tl.constexpr,
    DP: tl.constexpr,
    P: tl.constexpr,
    PP: tl.constexpr,
    FIELDS: tl.constexpr,
    M: tl.constexpr,
    HEADS: tl.constexpr,
    SPLITS: tl.constexpr,
    W1: tl.constexpr,
    W2: tl.constexpr,
    SLOPE: tl.constexpr,
    BC: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Grid (tiles of candidates, users).

    Input of a candidate: its embedding, attention to recent events and to slots, means and scalars of its own slots.
    """
    user = tl.program_id(1)
    users = tl.num_programs(1)
    slab = tl.load(slot_of + user).to(tl.int64)
    c = tl.program_id(0) * BC + tl.arange(0, BC)
    d = tl.arange(0, DP)
    n = tl.arange(0, W1)
    is_candidate = c < C
    item = tl.load(items + user * C + c, mask=is_candidate, other=0)
    at = is_candidate[:, None] & (d < D)[None, :]
    target = tl.load(rows + item[:, None] * D + d[None, :], mask=at, other=0.0)
    x = tl.zeros([BC, W1], tl.float32)
    x = _project(x, target, candidate, 0, D, DP, W1, PRECISION)
    for head in tl.range(HEADS, num_stages=1):
        line = ((SPLITS * HEADS + head) * users + user).to(tl.int64) * C + c
        short = tl.load(partial + line[:, None] * D + d[None, :], mask=at, other=0.0)
        x = _project(x, short, candidate, (1 + head) * D, D, DP, W1, PRECISION)
        long = tl.zeros([BC, DP], tl.float32)
        for split in tl.range(SPLITS, num_stages=1):
            line = ((split * HEADS + head) * users + user).to(tl.int64) * C + c
            long += tl.load(partial + line[:, None] * D + d[None, :], mask=at, other=0.0)
        x = _project(x, long, candidate, (1 + HEADS + head) * D, D, DP, W1, PRECISION)
    norm = tl.sum(target * target, 1) + 1e-2
    w = tl.arange(0, WP)
    direct = tl.zeros([BC], tl.float32)
    for m in tl.range(M, num_stages=1):
        slot = tl.load(keys + item * (2 * M) + m, mask=is_candidate, other=0)
        key = tl.load(keys + item * (2 * M) + M + m, mask=is_candidate, other=0)
        line = slab * R + slot
        load = tl.load(counts + line, mask=is_candidate, other=0.0)
        total = tl.load(sums + line[:, None] * D + d[None, :], mask=at, other=0.0)
        own = total / (load + 1.0)[:, None]
        x = _project(x, own, candidate, (1 + 2 * HEADS + m) * D, D, DP, W1, PRECISION)
        inside = is_candidate[:, None] & (w < W)[None, :]
        cell = line[:, None] * W + w[None, :]
        is_match = tl.load(tallied + cell, mask=inside, other=-1) == key[:, None]
        tally = tl.sum(tl.where(is_match, tl.load(tallies + cell, mask=inside, other=0.0), 0.0), 1)
        alike = tl.maximum(tl.sum(total * target, 1) / norm, 0.0)
        first = (1 + 2 * HEADS + M) * D + 3 * m
        for s in tl.static_range(3):
            scalar = tl.log(1.0 + (tally if s == 0 else (alike if s == 1 else load)))
            x += scalar[:, None] * tl.load(candidate + (first + s) * W1 + n)[None, :]
            direct += scalar * tl.load(wide + 3 * m + s)
    x += _user_part(
        recent,
        context_ids,
        state,
        rows,
        profile,
        mean,
        context,
        context_start,
        bias,
        user,
        slab,
        N,
        NP,
        D,
        DP,
        P,
        PP,
        FIELDS,
        W1,
    )[None, :]
    x = tl.where(x > 0, x, SLOPE * x)
    n2 = tl.arange(0, W2)
    y = tl.dot(x, tl.load(hidden + n[:, None] * W2 + n2[None, :]), input_precision=PRECISION)
    y += tl.load(hidden_bias + n2)[None, :]
    y = tl.where(y > 0, y, SLOPE * y)
    logit = tl.sum(y * tl.load(out + n2)[None, :], 1) + tl.load(out_bias) + direct
    tl.store(logits + user * C + c, logit, mask=is_candidate)
