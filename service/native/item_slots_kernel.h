/* The kernel of item_slots.h, for one instruction set. Include once per source, with LANES, VECS and KERNEL defined. */
#define _POSIX_C_SOURCE 200809L /* clock_gettime */
#include "tile.h"

#include <math.h>
#include <string.h>
#include <time.h>

#define TINY 1e-9f /* models/readers/slots.py */

/* What candidates attend to: filled slots, or recent items. */
typedef struct {
    int64_t count, heads;
    const float *tau;     /* [heads, F] */
    float *vectors;       /* [count, padded D] */
    float *turned;        /* [blocks, D, BLOCK]: the same, with lanes for slots; zero behind the last */
    float *sums;          /* [blocks, heads, BLOCK]: n; zero behind the last */
} keys;

typedef struct {
    const absorb_item_slots_plan *plan;
    const absorb_item_slots_request *request;
    absorb_item_slots_layout at;
    float *scratch;
    int64_t dim, inputs, groups; /* padded D; padded inputs of the head; H + short H */
} call;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void add_key(const call *c, keys *k, int64_t row, const float *sums) {
    const absorb_item_slots_plan *p = c->plan;
    int64_t block = k->count / ABSORB_BLOCK, place = k->count % ABSORB_BLOCK;
    float *turned = k->turned + block * p->dim * ABSORB_BLOCK, *n = k->sums + block * k->heads * ABSORB_BLOCK;
    if (place == 0) {
        memset(turned, 0, sizeof(float) * p->dim * ABSORB_BLOCK);
        memset(n, 0, sizeof(float) * k->heads * ABSORB_BLOCK);
    }
    const float *vector = p->items + row * p->stride;
    memcpy(k->vectors + k->count * c->dim, vector, sizeof(float) * c->dim);
    for (int64_t d = 0; d < p->dim; d++) turned[d * ABSORB_BLOCK + place] = vector[d];
    for (int64_t h = 0; h < k->heads; h++)
        n[h * ABSORB_BLOCK + place] = !sums ? 1.0f : sums[h] < TINY ? TINY : sums[h];
    k->count++;
}

/* Weights of a block's keys, [rows, heads, BLOCK], from cosines, [F, ROWS, BLOCK]. */
static void weigh(const call *c, const keys *k, int64_t block, int64_t rows, int64_t width, float *masses) {
    const int64_t fields = c->plan->num_fields, heads = k->heads;
    const float *cosines = c->scratch + c->at.cosines, *n = k->sums + block * heads * ABSORB_BLOCK;
    float *weights = c->scratch + c->at.weights;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t h = 0; h < heads; h++) {
            const float *tau = k->tau + h * fields;
            float *mass = masses + (r * heads + h) * LANES, most = 0.0f;
            for (int64_t f = 0; f < fields; f++) most += tau[f];
            vec sum = block ? load(mass) : (vec){0};
            for (int64_t i = 0; i < width; i += LANES) {
                vec x = splat(-most);
                for (int64_t f = 0; f < fields; f++)
                    x += splat(tau[f]) * load(cosines + (f * ABSORB_ROWS + r) * ABSORB_BLOCK + i);
                vec weight = load(n + h * ABSORB_BLOCK + i) * exponential(x);
                store(weights + (r * heads + h) * ABSORB_BLOCK + i, weight);
                sum += weight;
            }
            store(mass, sum);
        }
}

/* Pooled sums, [candidates, heads, padded D], and masses, [candidates, heads, LANES], of a chunk. */
static void attend(const call *c, const keys *k, int64_t candidates) {
    const absorb_item_slots_plan *p = c->plan;
    float *cosines = c->scratch + c->at.cosines, *inputs = c->scratch + c->at.inputs;
    float *pooled = c->scratch + c->at.pooled, *masses = c->scratch + c->at.masses;
    if (k->count == 0) {
        memset(pooled, 0, sizeof(float) * candidates * k->heads * c->dim);
        memset(masses, 0, sizeof(float) * candidates * k->heads * LANES);
    }
    for (int64_t first = 0; first < k->count; first += ABSORB_BLOCK) {
        int64_t block = first / ABSORB_BLOCK;
        int64_t count = k->count - first < ABSORB_BLOCK ? k->count - first : ABSORB_BLOCK;
        int64_t width = absorb_up(count, LANES);
        const float *turned = k->turned + block * p->dim * ABSORB_BLOCK;
        for (int64_t top = 0; top < candidates; top += ABSORB_ROWS) {
            int64_t rows = candidates - top < ABSORB_ROWS ? candidates - top : ABSORB_ROWS;
            for (int64_t f = 0, start = 0; f < p->num_fields; start = p->field_ends[f++])
                multiply(rows, width, p->field_ends[f] - start, inputs + top * c->inputs + start, c->inputs,
                         turned + start * ABSORB_BLOCK, ABSORB_BLOCK, cosines + f * ABSORB_ROWS * ABSORB_BLOCK,
                         ABSORB_BLOCK, 0);
            weigh(c, k, block, rows, width, masses + top * k->heads * LANES);
            multiply(rows * k->heads, c->dim, count, c->scratch + c->at.weights, ABSORB_BLOCK,
                     k->vectors + first * c->dim, c->dim, pooled + top * k->heads * c->dim, c->dim, block > 0);
        }
    }
}

/* Write a reader's part of the head's inputs: pooled vectors and asinh of masses, from group `group` on. */
static void read_out(const call *c, const keys *k, int64_t candidates, int64_t group) {
    const int64_t dim = c->plan->dim, heads = k->heads, masses_at = c->inputs - c->groups;
    const float *pooled = c->scratch + c->at.pooled, *masses = c->scratch + c->at.masses;
    for (int64_t row = 0; row < candidates * heads; row++) {
        float *input = c->scratch + c->at.inputs + row / heads * c->inputs;
        int64_t g = group + row % heads;
        float mass = total(load(masses + row * LANES)), scale = 1.0f / (1.0f + mass);
        float *mean = input + (1 + g) * dim, *product = mean + c->groups * dim;
        for (int64_t d = 0; d < dim; d++) {
            float value = pooled[row * c->dim + d] * scale;
            mean[d] = value;
            product[d] = value * input[d];
        }
        input[masses_at + g] = asinhf(mass);
    }
}

/* Inputs that do not depend on the history: the vector and what describes the candidate. Masses are the last inputs. */
static void describe(const call *c, int64_t first, int64_t candidates) {
    const absorb_item_slots_plan *p = c->plan;
    const int64_t width = p->embedding_dim;
    for (int64_t row = 0; row < candidates; row++) {
        const float *item = p->items + c->request->items[first + row] * p->stride;
        float *input = c->scratch + c->at.inputs + row * c->inputs, *end = input + p->dim * (1 + 2 * c->groups);
        memcpy(input, item, sizeof(float) * p->dim);
        memcpy(end, item + c->dim, sizeof(float) * p->item_described);
        end += p->item_described;
        for (int32_t f = 0; f < p->num_candidate; f++, end += width) {
            int64_t id = c->request->fields[(first + row) * p->num_candidate + f];
            memcpy(end, p->candidate_tables[f] + id * width, sizeof(float) * width);
        }
    }
}

static void rectify(float *values, int64_t count, float slope) {
    for (int64_t i = 0; i < count; i += LANES) {
        vec x = load(values + i);
        store(values + i, where(x > (vec){0}, x, x * splat(slope)));
    }
}

/* Hidden layers; returns the last one's outputs, whose rows are `*stride` apart. */
static const float *hidden_layers(const call *c, int64_t candidates, int64_t *stride) {
    const absorb_item_slots_plan *p = c->plan;
    const float *from = c->scratch + c->at.inputs, *bias = c->scratch + c->at.user;
    int64_t depth = c->inputs, step = c->inputs, half = (c->at.user - c->at.hidden) / 2;
    float *to = c->scratch + c->at.hidden;
    for (int32_t layer = 0; layer < p->num_layers; layer++) {
        int64_t width = absorb_up(p->widths[layer], LANES);
        if (layer) bias = p->biases[layer];
        for (int64_t row = 0; row < candidates; row++) memcpy(to + row * width, bias, sizeof(float) * width);
        multiply(candidates, width, depth, from, step, p->weights[layer], 0, to, width, 1);
        rectify(to, candidates * width, p->slope);
        from = to;
        depth = p->widths[layer];
        step = width;
        to = c->scratch + c->at.hidden + (layer % 2 ? 0 : half);
    }
    *stride = step;
    return from;
}

static void finish(const call *c, int64_t first, int64_t candidates) {
    const absorb_item_slots_plan *p = c->plan;
    int64_t stride;
    const float *hidden = hidden_layers(c, candidates, &stride);
    for (int64_t row = 0; row < candidates; row++) {
        const float *item = p->items + c->request->items[first + row] * p->stride;
        const float *masses = c->scratch + c->at.inputs + (row + 1) * c->inputs - c->groups;
        float logit = p->out_bias + item[c->dim + p->item_described];
        for (int64_t g = 0; g < c->groups; g++) logit += p->wide[g] * masses[g];
        for (int32_t i = 0; i < p->widths[p->num_layers - 1]; i++) logit += p->out[i] * hidden[row * stride + i];
        c->request->logits[first + row] = logit;
    }
}

/* The first layer's part that all candidates share. */
static void add_user(const call *c) {
    const absorb_item_slots_plan *p = c->plan;
    int64_t width = absorb_up(p->widths[0], LANES), size = p->embedding_dim;
    float *shared = c->scratch + c->at.user, *input = shared + absorb_up(p->widths[0], ABSORB_MAX_LANES);
    memcpy(input, c->request->profile, sizeof(float) * p->profile_dim);
    for (int32_t f = 0; f < p->num_context; f++)
        memcpy(input + p->profile_dim + f * size, p->context_tables[f] + c->request->context[f] * size,
               sizeof(float) * size);
    memcpy(shared, p->biases[0], sizeof(float) * width);
    multiply(1, width, p->profile_dim + p->num_context * size, input, 0, p->user, 0, shared, width, 1);
}

static void add_slots(const call *c, keys *slots) {
    const absorb_item_slots_request *q = c->request;
    for (int32_t at = 0; at < c->plan->rank; at++)
        if (q->slot_rows[at] != ABSORB_PADDING) add_key(c, slots, q->slot_rows[at], q->slot_sums + at * slots->heads);
}

static void add_recent(const call *c, keys *latest) {
    const absorb_item_slots_request *q = c->request;
    for (int32_t at = q->num_recent > c->plan->recent ? q->num_recent - c->plan->recent : 0; at < q->num_recent; at++)
        if (q->recent[at] != ABSORB_PADDING) add_key(c, latest, q->recent[at], 0);
}

void KERNEL(item_slots)(const absorb_item_slots_plan *plan, const absorb_item_slots_request *request,
                        absorb_item_slots_progress *progress) {
    call c = {.plan = plan, .request = request};
    absorb_item_slots_layout_of(plan, &c.at);
    uintptr_t unaligned = (uintptr_t)request->scratch;
    c.scratch = request->scratch + (64 - unaligned % 64) % 64 / sizeof(float);
    c.dim = absorb_up(plan->dim, ABSORB_MAX_LANES);
    c.groups = plan->heads + plan->short_heads;
    c.inputs = plan->dim * (1 + 2 * c.groups) + plan->item_described + c.groups +
               (int64_t)plan->num_candidate * plan->embedding_dim;
    float *vectors = c.scratch + c.at.vectors, *turned = c.scratch + c.at.turned, *sums = c.scratch + c.at.sums;
    keys slots = {0, plan->heads, plan->tau, vectors, turned, sums};
    double *seconds = request->seconds, started = seconds ? now() : 0.0, ended;
    add_user(&c);
    add_slots(&c, &slots);
    int64_t slot_blocks = absorb_up(slots.count, ABSORB_BLOCK);
    keys latest = {0, plan->short_heads, plan->short_tau, vectors + slot_blocks * c.dim,
                   turned + slot_blocks * plan->dim, sums + slot_blocks * plan->heads};
    add_recent(&c, &latest);
    if (seconds) seconds[0] += (ended = now()) - started, started = ended;
    int64_t first = 0, count = 0;
    while ((count = absorb_item_slots_take(progress, request->num_items, &first, count)) > 0) {
        describe(&c, first, count);
        attend(&c, &slots, count);
        read_out(&c, &slots, count, 0);
        attend(&c, &latest, count);
        read_out(&c, &latest, count, plan->heads);
        if (seconds) seconds[1] += (ended = now()) - started, started = ended;
        finish(&c, first, count);
        if (progress) __atomic_fetch_add(&progress->finished, count, __ATOMIC_RELEASE);
        if (seconds) seconds[2] += (ended = now()) - started, started = ended;
    }
}

double KERNEL(peak)(int64_t rounds, float *sink) {
    vec sums[12], factor = splat(sink[0]), term = splat(sink[1]);
    UNROLL for (int i = 0; i < 12; i++) sums[i] = splat((float)i);
    for (int64_t round = 0; round < rounds; round++) {
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++) sums[i] = sums[i] * factor + term;
    }
    float sum = 0.0f;
    for (int i = 0; i < 12; i++) sum += total(sums[i]);
    sink[2] = sum;
    return (double)rounds * 12 * LANES * 2;
}
