/* Checks of a request, the layout of its scratch memory, and dispatch by instruction set. */
#include "item_slots.h"

#include <sched.h>
#include <stddef.h>

static int is_outside(const int64_t *ids, int64_t count, int64_t size) {
    int outside = 0;
    for (int64_t at = 0; at < count; at++) outside |= (uint64_t)ids[at] >= (uint64_t)size;
    return outside;
}

static int has_bad_field(const int64_t *ids, int64_t rows, int32_t fields, const int32_t *sizes) {
    int bad = 0;
    for (int64_t row = 0; row < rows; row++)
        for (int32_t f = 0; f < fields; f++)
            bad |= (uint64_t)ids[row * fields + f] >= (uint64_t)sizes[f];
    return bad;
}

int32_t absorb_item_slots_check(const absorb_item_slots_plan *plan, const absorb_item_slots_request *request) {
    int32_t used = request->num_recent < plan->recent ? request->num_recent : plan->recent;
    int outside = 0;
    for (int32_t at = 0; at < plan->rank; at++)
        outside |= (uint32_t)request->slot_rows[at] >= (uint32_t)plan->num_items;
    if (outside) return ABSORB_BAD_SLOT;
    if (is_outside(request->recent + (request->num_recent - used), used, plan->num_items)) return ABSORB_BAD_RECENT;
    if (has_bad_field(request->context, 1, plan->num_context, plan->context_sizes)) return ABSORB_BAD_CONTEXT;
    if (is_outside(request->items, request->num_items, plan->num_items)) return ABSORB_BAD_ITEM;
    if (has_bad_field(request->fields, request->num_items, plan->num_candidate, plan->candidate_sizes))
        return ABSORB_BAD_FIELD;
    return ABSORB_OK;
}

static int64_t take(int64_t *total, int64_t floats) {
    int64_t at = *total;
    *total += absorb_up(floats, ABSORB_MAX_LANES);
    return at;
}

void absorb_item_slots_layout_of(const absorb_item_slots_plan *plan, absorb_item_slots_layout *layout) {
    int64_t heads = plan->heads > plan->short_heads ? plan->heads : plan->short_heads;
    int64_t groups = plan->heads + plan->short_heads;
    int64_t slots = absorb_up(plan->rank, ABSORB_BLOCK) + absorb_up(plan->recent, ABSORB_BLOCK), dim = absorb_up(plan->dim, ABSORB_MAX_LANES), widest = 0;
    int64_t inputs = plan->dim * (1 + 2 * groups) + plan->item_described + groups +
                     (int64_t)plan->num_candidate * plan->embedding_dim;
    for (int32_t layer = 0; layer < plan->num_layers; layer++)
        if (plan->widths[layer] > widest) widest = plan->widths[layer];
    widest = absorb_up(widest, ABSORB_MAX_LANES);
    int64_t total = 0;
    layout->vectors = take(&total, slots * dim);
    layout->turned = take(&total, slots * plan->dim);
    layout->sums = take(&total, slots * heads);
    layout->inputs = take(&total, ABSORB_CHUNK * absorb_up(inputs, ABSORB_MAX_LANES));
    layout->pooled = take(&total, ABSORB_CHUNK * heads * dim);
    layout->masses = take(&total, ABSORB_CHUNK * heads * ABSORB_MAX_LANES);
    layout->cosines = take(&total, (int64_t)plan->num_fields * ABSORB_ROWS * ABSORB_BLOCK);
    layout->weights = take(&total, ABSORB_ROWS * heads * ABSORB_BLOCK);
    layout->hidden = take(&total, 2 * ABSORB_CHUNK * widest);
    layout->user = take(&total, widest + plan->profile_dim + (int64_t)plan->num_context * plan->embedding_dim);
    layout->total = total + ABSORB_MAX_LANES; /* the first float may have to be aligned */
}

int64_t absorb_item_slots_scratch(const absorb_item_slots_plan *plan) {
    absorb_item_slots_layout layout;
    absorb_item_slots_layout_of(plan, &layout);
    return layout.total;
}

int32_t absorb_item_slots_lanes(int32_t isa) {
    return isa == ABSORB_AVX512 ? 16 : isa == ABSORB_AVX2 ? 8 : 4;
}

int32_t absorb_item_slots_panel(int32_t isa) {
    return isa == ABSORB_AVX512 ? 64 : isa == ABSORB_AVX2 ? 16 : 8;
}

int64_t absorb_item_slots_take(absorb_item_slots_progress *progress, int64_t size, int64_t *first, int64_t count) {
    if (progress == NULL) {
        *first += count;
        return size - *first < ABSORB_CHUNK ? size - *first : ABSORB_CHUNK;
    }
    *first = __atomic_load_n(&progress->taken, __ATOMIC_RELAXED);
    do { /* smaller towards the end, so that all threads end at nearly the same time */
        count = absorb_up((size - *first) / 4, ABSORB_ROWS);
        if (count < 2 * ABSORB_ROWS) count = 2 * ABSORB_ROWS;
        if (count > ABSORB_CHUNK) count = ABSORB_CHUNK;
        if (count > size - *first) count = size - *first;
        if (count <= 0) return 0;
    } while (!__atomic_compare_exchange_n(&progress->taken, first, *first + count, 1, __ATOMIC_RELAXED,
                                          __ATOMIC_RELAXED));
    return count;
}

static int32_t run(int32_t isa, const absorb_item_slots_plan *plan, const absorb_item_slots_request *request,
                   absorb_item_slots_progress *progress) {
    if (!absorb_isa_supported(isa)) return ABSORB_BAD_ISA;
    if (request->scratch_floats < absorb_item_slots_scratch(plan)) return ABSORB_BAD_SCRATCH;
    int32_t problem = absorb_item_slots_check(plan, request);
    if (problem != ABSORB_OK) return problem;
#if defined(__x86_64__)
    if (isa == ABSORB_AVX512) absorb_item_slots_avx512(plan, request, progress);
    if (isa == ABSORB_AVX2) absorb_item_slots_avx2(plan, request, progress);
#endif
    if (isa == ABSORB_GENERIC) absorb_item_slots_generic(plan, request, progress);
    return ABSORB_OK;
}

int32_t absorb_item_slots_score(int32_t isa, const absorb_item_slots_plan *plan,
                                const absorb_item_slots_request *request) {
    return run(isa, plan, request, NULL);
}

int32_t absorb_item_slots_share(int32_t isa, const absorb_item_slots_plan *plan,
                                const absorb_item_slots_request *request, absorb_item_slots_progress *progress,
                                int32_t is_owner) {
    int is_late = __atomic_load_n(&progress->taken, __ATOMIC_RELAXED) >= request->num_items;
    int32_t problem = is_late ? ABSORB_OK : run(isa, plan, request, progress);
    if (!is_owner || problem != ABSORB_OK) return problem; /* helpers find the same problem before they take any */
    for (int tries = 0; __atomic_load_n(&progress->finished, __ATOMIC_ACQUIRE) < request->num_items; tries++)
        if (tries > 1000) sched_yield(); /* the system has taken the core from a helper */
    return ABSORB_OK;
}

double absorb_peak(int32_t isa, int64_t rounds, float *sink) {
#if defined(__x86_64__)
    if (isa == ABSORB_AVX512) return absorb_peak_avx512(rounds, sink);
    if (isa == ABSORB_AVX2) return absorb_peak_avx2(rounds, sink);
#endif
    return isa == ABSORB_GENERIC ? absorb_peak_generic(rounds, sink) : 0.0;
}
