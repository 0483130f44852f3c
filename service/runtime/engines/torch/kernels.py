# ruff: noqa: PLR0913 - a kernel takes its pointers and sizes one by one
"""Three Triton kernels that score item slots: the user's part, the attention, the head. fp32 throughout.

A candidate's weight of a slot never exceeds the slot's sum, since a cosine is at most 1: no running maximum is needed.
Widths are padded with zeros, which add nothing to any sum. Upper-case arguments are compile-time sizes: R slots, N
recent items, G pooled vectors (H of them from slots), D, W1, W2 widths, BC candidates and BK keys of a tile.
"""

try:
    import triton
    import triton.language as tl
except ModuleNotFoundError:
    from service.runtime.engines.torch.without_triton import tl, triton


@triton.jit
def user_kernel(
    states,
    context,
    profile_weight,
    bias,
    context_terms,
    context_starts,
    shared,
    filled,
    P: tl.constexpr,
    PP: tl.constexpr,
    R: tl.constexpr,
    RP: tl.constexpr,
    CONTEXT: tl.constexpr,
    W1: tl.constexpr,
):
    """Grid (users). First layer of what the user's candidates share, and the number of slots up to the last filled one.

    `states` holds the address of each user's state (profile, slots' rows, slots' sums); 0 where there is no user.
    """
    user = tl.program_id(0)
    address = tl.load(states + user)
    if address != 0:
        p = tl.arange(0, PP)
        n = tl.arange(0, W1)
        floats = address.to(tl.pointer_type(tl.float32))
        profile = tl.load(floats + p, mask=p < P, other=0.0)
        at = p[:, None] * W1 + n[None, :]
        weight = tl.load(profile_weight + at, mask=(p < P)[:, None], other=0.0)
        x = tl.load(bias + n) + tl.sum(profile[:, None] * weight, 0)
        for f in tl.static_range(CONTEXT):
            row = tl.load(context_starts + f) + tl.load(context + user * CONTEXT + f)
            x += tl.load(context_terms + row.to(tl.int64) * W1 + n)
        tl.store(shared + user * W1 + n, x)
        k = tl.arange(0, RP)
        rows = tl.load(address.to(tl.pointer_type(tl.int32)) + P + k, mask=k < R, other=0)
        tl.store(filled + user, tl.max(tl.where(rows != 0, k + 1, 0), 0))


@triton.jit
def slots_kernel(
    states,
    users,
    items,
    recent,
    filled,
    ones,
    vectors,
    tau,
    tau_sum,
    sums,
    masses,
    P: tl.constexpr,
    R: tl.constexpr,
    N: tl.constexpr,
    H: tl.constexpr,
    G: tl.constexpr,
    D: tl.constexpr,
    BC: tl.constexpr,
    BK: tl.constexpr,
    TINY: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Grid (tiles of candidates, G, splits). Sums over a split's keys: sums[split, tile, g, BC, D], masses[…, BC].

    `users` holds the user of each tile, -1 for none. Short heads attend to `recent`, in the first split; their keys
    count 1 each, which they read from `ones`.
    """
    tile = tl.program_id(0)
    g = tl.program_id(1)
    split = tl.program_id(2)
    user = tl.load(users + tile)
    if user >= 0:
        c = tl.arange(0, BC)
        d = tl.arange(0, D)
        item = tl.load(items + tile * BC + c).to(tl.int64)
        query = (
            tl.load(vectors + item[:, None] * D + d[None, :]) * tl.load(tau + g * D + d)[None, :]
        )
        bound = tl.load(tau_sum + g)
        is_long = g < H
        keys = tl.where(is_long, tl.load(filled + user), N)
        stride = tl.where(is_long, H, 0)
        splits = tl.where(is_long, tl.num_programs(2), 1)
        part = tl.cdiv(tl.cdiv(keys, BK), splits) * BK
        address = tl.load(states + user)
        rows_at = address.to(tl.pointer_type(tl.int32)) + P
        counts_at = address.to(tl.pointer_type(tl.float32)) + P + R + g
        if g >= H:
            rows_at = recent + user * N
            counts_at = ones
        end = tl.minimum(keys, (split + 1) * part)
        acc = tl.zeros([BC, D], tl.float32)
        mass = tl.zeros([BC], tl.float32)
        for start in range(split * part, end, BK):
            k = start + tl.arange(0, BK)
            row = tl.load(rows_at + k, mask=k < end, other=0)
            count = tl.load(counts_at + k * stride, mask=k < end, other=0.0)
            count = tl.where(row != 0, tl.maximum(count, TINY), 0.0)
            key = tl.load(vectors + row.to(tl.int64)[:, None] * D + d[None, :])
            exponent = tl.dot(query, tl.trans(key), input_precision=PRECISION) - bound
            weight = tl.exp(exponent) * count[None, :]
            mass += tl.sum(weight, 1)
            acc = tl.dot(weight, key, acc, input_precision=PRECISION)
        line = ((split * tl.num_programs(0) + tile).to(tl.int64) * G + g) * BC + c
        tl.store(sums + line[:, None] * D + d[None, :], acc)
        tl.store(masses + line, mass)


@triton.jit
def head_kernel(
    users,
    items,
    fields,
    shared,
    vectors,
    item_terms,
    item_bias,
    field_terms,
    field_starts,
    pooled_weight,
    product_weight,
    mass_weight,
    wide,
    hidden,
    hidden_bias,
    out,
    out_bias,
    sums,
    masses,
    logits,
    H: tl.constexpr,
    G: tl.constexpr,
    D: tl.constexpr,
    W1: tl.constexpr,
    W2: tl.constexpr,
    FIELDS: tl.constexpr,
    SPLITS: tl.constexpr,
    BC: tl.constexpr,
    BH: tl.constexpr,
    SLOPE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Grid (tiles · BC / BH). Adds up the splits, and runs the head on BH candidates of a tile."""
    tiles = tl.num_programs(0) // (BC // BH)
    tile = tl.program_id(0) // (BC // BH)
    user = tl.load(users + tile)
    if user >= 0:
        inside = (tl.program_id(0) % (BC // BH)) * BH + tl.arange(0, BH)
        c = tile * BC + inside
        d = tl.arange(0, D)
        n = tl.arange(0, W1)
        m = tl.arange(0, W2)
        item = tl.load(items + c).to(tl.int64)
        target = tl.load(vectors + item[:, None] * D + d[None, :])
        logit = tl.load(item_bias + item) + tl.load(out_bias)
        x = tl.load(item_terms + item[:, None] * W1 + n[None, :])
        x += tl.load(shared + user * W1 + n)[None, :]
        for f in tl.static_range(FIELDS):
            row = tl.load(field_starts + f) + tl.load(fields + c * FIELDS + f)
            x += tl.load(field_terms + row.to(tl.int64)[:, None] * W1 + n[None, :])
        for g in range(G):
            line = (tile * G + g).to(tl.int64) * BC + inside
            pooled = tl.load(sums + line[:, None] * D + d[None, :])
            mass = tl.load(masses + line)
            if g < H:
                for split in tl.static_range(1, SPLITS):
                    other = line + split * G * BC * tiles.to(tl.int64)
                    pooled += tl.load(sums + other[:, None] * D + d[None, :])
                    mass += tl.load(masses + other)
            pooled = pooled / (1.0 + mass)[:, None]
            at = (g * D + d)[:, None] * W1 + n[None, :]
            x = tl.dot(pooled, tl.load(pooled_weight + at), x, input_precision=PRECISION)
            product = pooled * target
            x = tl.dot(product, tl.load(product_weight + at), x, input_precision=PRECISION)
            mass = tl.log(mass + tl.sqrt(mass * mass + 1.0))  # asinh
            x += mass[:, None] * tl.load(mass_weight + g * W1 + n)[None, :]
            logit += mass * tl.load(wide + g)
        x = tl.where(x > 0, x, SLOPE * x)
        weight = tl.load(hidden + n[:, None] * W2 + m[None, :])
        y = tl.dot(x, weight, input_precision=PRECISION) + tl.load(hidden_bias + m)[None, :]
        y = tl.where(y > 0, y, SLOPE * y)
        logit += tl.sum(y * tl.load(out + m)[None, :], 1)
        tl.store(logits + c, logit)
