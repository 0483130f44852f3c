/* Scores candidates with LREA's item slots and the kernel attention of `models/blocks/attention/kernel.py`.
 *
 * One call scores one user's slate. For each candidate t:
 *
 *     w_hi   = n_hi exp(sum_f tau_hf (cos_f(t, i) - 1))       over filled slots, and over recent items with n = 1
 *     mass_h = sum_i w_hi,  pooled_h = sum_i w_hi e_i / (1 + mass_h)
 *     logit  = bias_t + out . MLP(user + [e_t, pooled, e_t * pooled, described, asinh(mass)]) + wide . asinh(mass)
 *
 * Pointers are those of arrays that Python owns; `service/runtime/engines/native_plan.py` has the same structures.
 */
#ifndef ABSORB_ITEM_SLOTS_H
#define ABSORB_ITEM_SLOTS_H

#include "native.h"

/* Rows 0 and 1 of a catalogue are padding and unknown: models/contract/schema.py. */
enum { ABSORB_PADDING = 0 };

/* What a call returns. */
enum {
    ABSORB_OK = 0,
    ABSORB_BAD_SLOT = 1,      /* a slot's row is outside of the catalogue */
    ABSORB_BAD_RECENT = 2,    /* a recent item's row is */
    ABSORB_BAD_CONTEXT = 3,   /* an id of a context field is outside of its table */
    ABSORB_BAD_ITEM = 4,      /* a candidate's row is outside of the catalogue */
    ABSORB_BAD_FIELD = 5,     /* an id of a candidate field is outside of its table */
    ABSORB_BAD_SCRATCH = 6,   /* the scratch memory is too small */
    ABSORB_BAD_ISA = 7        /* this CPU lacks the instruction set */
};

/* A layer's weights are packed for an instruction set: panels of `absorb_item_slots_panel(isa)` outputs, the last one as
 * wide as needed and padded to `absorb_item_slots_lanes(isa)`; in a panel, the outputs of one input lie together. */
typedef struct {
    int32_t num_items;        /* V */
    int32_t stride;           /* floats of a row of `items`; a multiple of 16 */
    int32_t dim;              /* D */
    int32_t num_fields;       /* F */
    int32_t heads;            /* H of the slots */
    int32_t short_heads;      /* H of the recent items */
    int32_t rank;             /* r */
    int32_t recent;           /* N */
    int32_t item_described;   /* floats of a row behind the vector, which are inputs of the head */
    int32_t profile_dim;
    int32_t embedding_dim;    /* width of each context and candidate field's embedding */
    int32_t num_context;
    int32_t num_candidate;
    int32_t num_layers;       /* at least 1 */
    float slope;
    float out_bias;
    const int32_t *field_ends;            /* [F]: where each field's part of a vector ends */
    const float *items;                   /* [V, stride]: vector, padded to 16; described; bias */
    const float *tau;                     /* [H, F] */
    const float *short_tau;               /* [short H, F] */
    const float *const *context_tables;   /* each [size, embedding_dim] */
    const int32_t *context_sizes;
    const float *const *candidate_tables;
    const int32_t *candidate_sizes;
    const float *user;                    /* packed: profile and context -> widths[0] */
    const int32_t *widths;                /* [num_layers] */
    const float *const *weights;          /* packed: candidate -> widths[0] -> widths[1] ... */
    const float *const *biases;           /* padded to 16 */
    const float *out;                     /* [widths[num_layers - 1]] */
    const float *wide;                    /* [H + short H] */
} absorb_item_slots_plan;

typedef struct {
    int32_t num_recent;
    int32_t num_items;
    const int32_t *slot_rows;   /* [r]; rows that are padding are skipped wherever they are */
    const float *slot_sums;     /* [r, H] */
    const float *profile;       /* [profile_dim] */
    const int64_t *recent;      /* [num_recent]; the last N count */
    const int64_t *context;     /* [num_context] */
    const int64_t *items;       /* [num_items] */
    const int64_t *fields;      /* [num_items, num_candidate] */
    float *logits;              /* [num_items], the result */
    float *scratch;             /* memory of the call, whatever it holds */
    int64_t scratch_floats;
    double *seconds;            /* NULL, or [3]: time of user part, attention and head is added */
} absorb_item_slots_request;

ABSORB_API int32_t absorb_item_slots_lanes(int32_t isa);
ABSORB_API int32_t absorb_item_slots_panel(int32_t isa);

/* Floats of scratch that a call needs with any slate. */
ABSORB_API int64_t absorb_item_slots_scratch(const absorb_item_slots_plan *plan);

/* Score a slate; no logit is written where an id is refused. Several threads may call at once. */
ABSORB_API int32_t absorb_item_slots_score(int32_t isa, const absorb_item_slots_plan *plan,
                                           const absorb_item_slots_request *request);

/* How far a call has come that several threads share; zeros at the start. */
typedef struct {
    int64_t taken;    /* candidates that a thread has taken, in order; each thread takes some whenever it is free */
    int64_t finished; /* candidates whose logits are written */
} absorb_item_slots_progress;

/* As `absorb_item_slots_score`, with other threads: each calls this with its own scratch and the same `progress`. The
 * owner's call returns when every logit is written. It waits for no helper that has taken nothing: a helper may come too
 * late, or never. All that `request` points to must outlive the last helper's call. */
ABSORB_API int32_t absorb_item_slots_share(int32_t isa, const absorb_item_slots_plan *plan,
                                           const absorb_item_slots_request *request,
                                           absorb_item_slots_progress *progress, int32_t is_owner);

/* Multiply-add in registers, to measure the CPU's peak. Returns floating-point operations done. */
ABSORB_API double absorb_peak(int32_t isa, int64_t rounds, float *sink);

/* Parts of scratch, in floats. */
typedef struct {
    int64_t vectors, turned, sums, inputs, pooled, masses, cosines, weights, hidden, user, total;
} absorb_item_slots_layout;

enum {
    ABSORB_CHUNK = 48,   /* candidates that pass through attention and head together */
    ABSORB_BLOCK = 64,   /* slots that are attended to while they are in the first-level cache */
    ABSORB_ROWS = 6,     /* rows of a register tile */
    ABSORB_MAX_LANES = 16
};

static inline int64_t absorb_up(int64_t size, int64_t step) { return (size + step - 1) / step * step; }

void absorb_item_slots_layout_of(const absorb_item_slots_plan *plan, absorb_item_slots_layout *layout);
int32_t absorb_item_slots_check(const absorb_item_slots_plan *plan, const absorb_item_slots_request *request);

/* Take the candidates from `*first` on, and return how many: 0 if none is left. `progress` is NULL in a call of one
 * thread, which begins with `*first` = `count` = 0. */
int64_t absorb_item_slots_take(absorb_item_slots_progress *progress, int64_t size, int64_t *first, int64_t count);

#define ABSORB_KERNEL(name)                                                                        \
    void absorb_item_slots_##name(const absorb_item_slots_plan *, const absorb_item_slots_request *, \
                                  absorb_item_slots_progress *);                                    \
    double absorb_peak_##name(int64_t rounds, float *sink);
ABSORB_KERNEL(generic)
ABSORB_KERNEL(avx2)
ABSORB_KERNEL(avx512)

#endif
