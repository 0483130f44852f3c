/* Reads the common body of /v1/score without Python objects, and finds rows of raw ids in a hash table.
 *
 * The reader accepts a part of JSON and declines everything else, which pydantic then reads: strings of printable ASCII
 * without escapes, whole numbers of at most 18 digits, for values of fields also decimals of at most 15 digits as Python
 * writes them, known keys, each once. What it accepts, pydantic accepts with the same values. It reads each byte once, and nothing beyond the body.
 */
#include "native.h"
#include "tokens.h"

#include <string.h>

typedef struct {
    const uint8_t *body;
    uint32_t at, length;
} reader;

typedef struct {
    uint32_t at, length;
} span;

static int is_space(uint8_t c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

/* The next byte that is no white space; 0 at the end. */
static uint8_t peek(reader *r) {
    while (r->at < r->length && is_space(r->body[r->at])) r->at++;
    return r->at < r->length ? r->body[r->at] : 0;
}

static int take(reader *r, uint8_t c) {
    if (peek(r) != c) return 0;
    r->at++;
    return 1;
}

static int read_word(reader *r, const char *word) {
    uint32_t n = (uint32_t)strlen(word);
    if (r->length - r->at < n || memcmp(r->body + r->at, word, n) != 0) return 0;
    r->at += n;
    return 1;
}

/* A string of printable ASCII without escapes; the span is without quotes. */
static int read_text(reader *r, span *s) {
    if (!take(r, '"')) return 0;
    s->at = r->at;
    for (; r->at < r->length; r->at++) {
        uint8_t c = r->body[r->at];
        if (c == '"') {
            s->length = r->at - s->at;
            r->at++;
            return 1;
        }
        if (c < 0x20 || c > 0x7e || c == '\\') return 0;
    }
    return 0;
}

/* A whole number as Python writes it, so without -0; what follows must not belong to a number. */
static int read_number(reader *r, span *s) {
    peek(r);
    s->at = r->at;
    int is_negative = r->at < r->length && r->body[r->at] == '-';
    r->at += (uint32_t)is_negative;
    uint32_t first = r->at;
    while (r->at < r->length && r->body[r->at] >= '0' && r->body[r->at] <= '9') r->at++;
    uint32_t digits = r->at - first;
    if (digits == 0 || digits > MAX_DIGITS) return 0;
    if (r->body[first] == '0' && (digits > 1 || is_negative)) return 0;
    if (r->at < r->length) {
        uint8_t c = r->body[r->at];
        if (c != ',' && c != ']' && c != '}' && !is_space(c)) return 0;
    }
    s->length = r->at - s->at;
    return 1;
}

static int read_value(reader *r, span *s, int *is_number) {
    *is_number = peek(r) != '"';
    return *is_number ? read_number(r, s) : read_text(r, s);
}

/* A decimal as Python writes it, such as 19.99 or 5.0, so that its digits are the text of the value: at most 15 of them,
 * no zero at the end but in .0, and no number below 0.0001, for which Python writes an exponent. */
static int read_decimal(reader *r, span *s) {
    peek(r);
    s->at = r->at;
    if (r->at < r->length && r->body[r->at] == '-') r->at++;
    uint32_t first = r->at, zeros = 0;
    while (r->at < r->length && r->body[r->at] >= '0' && r->body[r->at] <= '9') r->at++;
    uint32_t whole = r->at - first;
    if (whole == 0 || (r->body[first] == '0' && whole > 1)) return 0;
    if (r->at == r->length || r->body[r->at++] != '.') return 0;
    uint32_t begin = r->at;
    while (r->at < r->length && r->body[r->at] >= '0' && r->body[r->at] <= '9') r->at++;
    uint32_t digits = r->at - begin;
    if (digits == 0 || whole + digits > MAX_DECIMAL_DIGITS) return 0;
    if (r->body[r->at - 1] == '0' && digits > 1) return 0;
    while (zeros < digits && r->body[begin + zeros] == '0') zeros++;
    if (r->body[first] == '0' && zeros < digits && zeros > 3) return 0;
    if (r->at < r->length) {
        uint8_t c = r->body[r->at];
        if (c != ',' && c != '}' && !is_space(c)) return 0;
    }
    s->length = r->at - s->at;
    return 1;
}

/* A value of a field: a text, or a number of either kind. `kind`: 0, 1 for a whole number, 2 for a decimal. */
static int read_field_value(reader *r, span *s, int *kind) {
    peek(r);
    uint32_t at = r->at;
    if (read_value(r, s, kind)) return 1;
    if (*kind == 0) return 0;
    r->at = at;
    *kind = 2;
    return read_decimal(r, s);
}

static int read_id(reader *r, span *s) {
    int is_number;
    return read_value(r, s, &is_number) && s->length >= 1 && s->length <= MAX_ID;
}

static int is_text(const reader *r, span s, const char *text) {
    return s.length == strlen(text) && memcmp(r->body + s.at, text, s.length) == 0;
}

static int is_same(const reader *r, span a, const int32_t *b) {
    return a.length == (uint32_t)b[1] && memcmp(r->body + a.at, r->body + b[0], a.length) == 0;
}

/* Number of a field's name in the body; a new one is added. -1: there are too many. */
static int32_t number_of(const reader *r, span name, int32_t *head) {
    int32_t *names = head + NAMES;
    for (int32_t k = 0; k < head[NUM_NAMES]; k++)
        if (is_same(r, name, names + 2 * k)) return k;
    if (head[NUM_NAMES] == MAX_NAMES) return -1;
    int32_t k = head[NUM_NAMES]++;
    names[2 * k] = (int32_t)name.at;
    names[2 * k + 1] = (int32_t)name.length;
    return k;
}

static int read_fields(reader *r, int32_t candidate, int32_t *head, int32_t *cells, int32_t max_cells) {
    if (peek(r) == 'n') return read_word(r, "null");
    if (!take(r, '{')) return 0;
    if (take(r, '}')) return 1;
    uint32_t seen = 0;
    do {
        span name, value;
        int kind;
        if (!read_text(r, &name) || !take(r, ':')) return 0;
        int32_t number = number_of(r, name, head);
        if (number < 0 || (seen & (1u << number))) return 0;
        seen |= 1u << number;
        if (peek(r) == 'n') {
            if (!read_word(r, "null")) return 0;
            continue;
        }
        if (!read_field_value(r, &value, &kind) || head[NUM_CELLS] == max_cells) return 0;
        int32_t *cell = cells + 4 * (int64_t)head[NUM_CELLS]++;
        cell[0] = candidate;
        cell[1] = number;
        cell[2] = (int32_t)value.at;
        cell[3] = (int32_t)value.length;
    } while (take(r, ','));
    return take(r, '}');
}

static int read_candidate(reader *r, span *id, int32_t candidate, int32_t *head, int32_t *cells, int32_t max_cells) {
    if (peek(r) != '{') return read_id(r, id);
    r->at++;
    int has_id = 0, has_fields = 0;
    do {
        span key;
        if (!read_text(r, &key) || !take(r, ':')) return 0;
        if (is_text(r, key, "id") && !has_id) {
            has_id = 1;
            if (!read_id(r, id)) return 0;
        } else if (is_text(r, key, "fields") && !has_fields) {
            has_fields = 1;
            if (!read_fields(r, candidate, head, cells, max_cells)) return 0;
        } else {
            return 0;
        }
    } while (take(r, ','));
    return has_id && take(r, '}');
}

/* A list of ids, or of candidates where `cells` is not NULL; its spans are appended. */
static int read_list(reader *r, int32_t *head, int32_t kind, const absorb_room *room, int32_t *used) {
    int32_t first = *used, most = kind == CANDIDATES ? room->max_candidates : room->max_recent;
    head[kind] = first;
    head[kind + 1] = 0;
    if (!take(r, '[')) return 0;
    if (take(r, ']')) return kind == RECENT;
    do {
        span id;
        int32_t number = *used - first;
        if (number == most || *used == room->max_spans) return 0;
        int is_read = kind == CANDIDATES ? read_candidate(r, &id, number, head, room->cells, room->max_cells)
                                         : read_id(r, &id);
        if (!is_read) return 0;
        room->spans[2 * (int64_t)*used] = (int32_t)id.at;
        room->spans[2 * (int64_t)*used + 1] = (int32_t)id.length;
        ++*used;
    } while (take(r, ','));
    head[kind + 1] = *used - first;
    return take(r, ']');
}

static int read_context(reader *r, int32_t *head) {
    if (!take(r, '{')) return 0;
    if (take(r, '}')) return 1;
    do {
        span key, value;
        int kind;
        if (head[NUM_CONTEXT] == MAX_CONTEXT || !read_text(r, &key) || !take(r, ':')) return 0;
        for (int32_t k = 0; k < head[NUM_CONTEXT]; k++)
            if (is_same(r, key, head + CONTEXT + 5 * k)) return 0;
        if (!read_field_value(r, &value, &kind)) return 0;
        int32_t *entry = head + CONTEXT + 5 * head[NUM_CONTEXT]++;
        entry[0] = (int32_t)key.at;
        entry[1] = (int32_t)key.length;
        entry[2] = (int32_t)value.at;
        entry[3] = (int32_t)value.length;
        entry[4] = kind;
    } while (take(r, ','));
    return take(r, '}');
}

static int read_top_k(reader *r, int32_t *head) {
    if (peek(r) == 'n') return read_word(r, "null");
    span s;
    if (!read_number(r, &s) || s.length > 9 || r->body[s.at] == '-') return 0;
    int32_t number = 0;
    for (uint32_t k = 0; k < s.length; k++) number = 10 * number + (r->body[s.at + k] - '0');
    head[TOP_K] = number;
    return number > 0;
}

static int read_span(reader *r, int32_t *head, int32_t place, int (*read)(reader *, span *)) {
    span s;
    if (!read(r, &s)) return 0;
    head[place] = (int32_t)s.at;
    head[place + 1] = (int32_t)s.length;
    return 1;
}

enum { SEEN_USER = 1, SEEN_CANDIDATES = 2, SEEN_RECENT = 4, SEEN_CONTEXT = 8, SEEN_MODEL = 16, SEEN_TOP_K = 32 };

static int read_member(reader *r, span key, int32_t *head, const absorb_room *room, int32_t *used, uint32_t *seen) {
    uint32_t bit = is_text(r, key, "user_id")      ? SEEN_USER
                   : is_text(r, key, "candidates") ? SEEN_CANDIDATES
                   : is_text(r, key, "recent")     ? SEEN_RECENT
                   : is_text(r, key, "context")    ? SEEN_CONTEXT
                   : is_text(r, key, "model")      ? SEEN_MODEL
                   : is_text(r, key, "top_k")      ? SEEN_TOP_K
                                                   : 0;
    if (bit == 0 || (*seen & bit)) return 0;
    *seen |= bit;
    switch (bit) {
    case SEEN_USER: return read_span(r, head, USER, read_id);
    case SEEN_CANDIDATES: return read_list(r, head, CANDIDATES, room, used);
    case SEEN_CONTEXT: return read_context(r, head);
    case SEEN_TOP_K: return read_top_k(r, head);
    case SEEN_RECENT: return peek(r) == 'n' ? read_word(r, "null") : read_list(r, head, RECENT, room, used);
    default: return peek(r) == 'n' ? read_word(r, "null") : read_span(r, head, MODEL, read_text);
    }
}

int32_t absorb_read_score(const uint8_t *body, int64_t length, int32_t *head, const absorb_room *room) {
    if (length > MAX_BODY) return 0;
    reader r = {body, 0, (uint32_t)length};
    memset(head, 0, CONTEXT * sizeof *head);
    head[MODEL + 1] = head[RECENT + 1] = -1;
    int32_t used = 0;
    uint32_t seen = 0;
    if (!take(&r, '{')) return 0;
    do {
        span key;
        if (!read_text(&r, &key) || !take(&r, ':')) return 0;
        if (!read_member(&r, key, head, room, &used, &seen)) return 0;
    } while (take(&r, ','));
    uint32_t needed = SEEN_USER | SEEN_CANDIDATES;
    return take(&r, '}') && peek(&r) == 0 && r.at == r.length && (seen & needed) == needed;
}

static uint64_t mixed(uint64_t x) {
    x ^= x >> 32;
    x *= 0x9E3779B97F4A7C15u;
    return x ^ (x >> 29);
}

/* The words by which an id is found: its bytes if they fit, else their hash. */
static void words_of(const uint8_t *id, uint32_t length, uint64_t words[2]) {
    words[0] = words[1] = 0;
    if (length <= 16) {
        memcpy(words, id, length);
        return;
    }
    uint64_t hash = length;
    for (uint32_t k = 0; k < length; k += 8) {
        uint64_t word = 0;
        memcpy(&word, id + k, length - k < 8 ? length - k : 8);
        hash = mixed(hash ^ word) + 0xC2B2AE3D27D4EB4Fu;
    }
    words[0] = hash;
}

static uint64_t home_of(const uint64_t words[2], uint32_t length, uint64_t mask) {
    return mixed(mixed(words[0] + length) ^ (words[1] * 0xC2B2AE3D27D4EB4Fu)) & mask;
}

void absorb_fill_table(absorb_table *table, const uint32_t *ends, const int32_t *rows, int64_t num_ids) {
    uint32_t begin = 0;
    for (int64_t k = 0; k < num_ids; begin = ends[k++]) {
        uint64_t words[2];
        uint32_t length = ends[k] - begin;
        words_of(table->text + begin, length, words);
        uint64_t at = home_of(words, length, table->mask);
        while (table->entries[at].size) at = (at + 1) & table->mask;
        absorb_entry entry = {{words[0], words[1]}, begin, length + 1, rows[k], 0};
        table->entries[at] = entry;
    }
}

static int32_t found(const absorb_table *table, const uint8_t *id, uint32_t length, int32_t missing) {
    uint64_t words[2];
    words_of(id, length, words);
    for (uint64_t at = home_of(words, length, table->mask);; at = (at + 1) & table->mask) {
        const absorb_entry *entry = table->entries + at;
        if (entry->size == 0) return missing;
        if (entry->size == length + 1 && entry->words[0] == words[0] && entry->words[1] == words[1] &&
            (length <= 16 || memcmp(table->text + entry->at, id, length) == 0))
            return entry->row;
    }
}

int64_t absorb_find_rows(const absorb_table *table, const uint8_t *body, const int32_t *spans, int64_t num_spans,
                         int32_t missing, int64_t *rows) {
    enum { AHEAD = 16 };
    int64_t num_missing = 0;
    for (int64_t k = 0; k < num_spans + AHEAD; k++) {
        if (k < num_spans) {
            /* The entries are scattered: their loads overlap if they begin early. */
            uint64_t words[2];
            uint32_t length = (uint32_t)spans[2 * k + 1];
            words_of(body + spans[2 * k], length, words);
            __builtin_prefetch(table->entries + home_of(words, length, table->mask));
        }
        int64_t at = k - AHEAD;
        if (at < 0) continue;
        rows[at] = found(table, body + spans[2 * at], (uint32_t)spans[2 * at + 1], missing);
        num_missing += rows[at] == missing;
    }
    return num_missing;
}

void absorb_find_cells(const absorb_table *table, const uint8_t *body, const int32_t *cells, int64_t num_cells,
                       const absorb_column *column, int64_t *ids) {
    for (int64_t k = 0; k < num_cells; k++) {
        const int32_t *cell = cells + 4 * k;
        if (cell[1] != column->name || cell[0] < column->begin || cell[0] >= column->end) continue;
        int64_t place = (int64_t)(cell[0] - column->begin) * column->stride;
        ids[place] = found(table, body + cell[2], (uint32_t)cell[3], column->missing);
    }
}

/* The number of a text of digits, perhaps with a sign and a point; 0 for any other text. Both parts of the quotient are
 * exact, so that it is the number that a correctly rounding reader gives, such as Python's. */
static int read_plain(const uint8_t *text, uint32_t length, double *number) {
    static const double POWERS[] = {1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
    uint32_t at = length > 0 && text[0] == '-', digits = 0, after = 0;
    int is_negative = at == 1, has_point = 0;
    int64_t mantissa = 0;
    for (; at < length; at++) {
        if (text[at] == '.' && !has_point && digits > 0) {
            has_point = 1;
        } else if (text[at] >= '0' && text[at] <= '9' && digits < MAX_DECIMAL_DIGITS) {
            mantissa = 10 * mantissa + (text[at] - '0');
            digits++;
            after += (uint32_t)has_point;
        } else {
            return 0;
        }
    }
    if (digits == 0 || (has_point && after == 0)) return 0;
    double value = (double)mantissa / POWERS[after];
    *number = is_negative ? -value : value;
    return 1;
}

int64_t absorb_find_buckets(const absorb_edges *edges, const uint8_t *body, const int32_t *cells, int64_t num_cells,
                            const absorb_column *column, int64_t *ids) {
    int64_t num_unread = 0;
    for (int64_t k = 0; k < num_cells; k++) {
        const int32_t *cell = cells + 4 * k;
        if (cell[1] != column->name || cell[0] < column->begin || cell[0] >= column->end) continue;
        double number;
        if (!read_plain(body + cell[2], (uint32_t)cell[3], &number)) {
            num_unread++;
            continue;
        }
        int64_t low = 0, high = edges->number; /* the first edge above the number is in [low, high] */
        while (low < high) {
            int64_t middle = (low + high) / 2;
            if (edges->edges[middle] <= number) low = middle + 1;
            else high = middle;
        }
        ids[(int64_t)(cell[0] - column->begin) * column->stride] = edges->first + low;
    }
    return num_unread;
}
