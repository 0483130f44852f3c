/* Layout of what tokens.c reads and writes; tokens.py has the same numbers. */
#ifndef ABSORB_TOKENS_H
#define ABSORB_TOKENS_H

#include "native.h"

/* Limits of what is read here; beyond them pydantic reads. */
enum { MAX_ID = 128, MAX_DIGITS = 18, MAX_DECIMAL_DIGITS = 15, MAX_CONTEXT = 64, MAX_NAMES = 32, MAX_BODY = 1 << 30 };

/* Places in the head of a body that was read. A span is two numbers: where it begins, and its length. */
enum {
    USER = 0,       /* span */
    MODEL = 2,      /* span; length -1: none */
    TOP_K = 4,      /* 0: none */
    CANDIDATES = 5, /* first of the spans, and their number */
    RECENT = 7,     /* the same; number -1: none */
    NUM_CONTEXT = 9,
    NUM_NAMES = 10,
    NUM_CELLS = 11,
    CONTEXT = 12,                         /* spans of key and value, and 1 if the value is a whole number, 2: a decimal */
    NAMES = CONTEXT + 5 * MAX_CONTEXT,    /* spans of the candidate fields' names */
    HEAD_LENGTH = NAMES + 2 * MAX_NAMES
};

/* Where the ids and the candidates' fields go. */
typedef struct {
    int32_t *spans;          /* [max_spans, 2], candidates and recents, one list after the other */
    int32_t *cells;          /* [max_cells, 4]: candidate, name, and span of the value */
    int32_t max_spans, max_cells;
    int32_t max_candidates, max_recent;
} absorb_room;

/* Open addressing: an entry of size 0 is free, and at most half of them are not. */
typedef struct {
    uint64_t words[2]; /* the id if it has at most 16 bytes, else a hash of it and 0 */
    uint32_t at, size; /* where the id is in the text; its length, plus 1 */
    int32_t row, unused;
} absorb_entry;

typedef struct {
    absorb_entry *entries; /* [mask + 1], zeros before it is filled */
    const uint8_t *text;   /* all ids, one after the other */
    uint64_t mask;         /* a power of two, minus 1 */
} absorb_table;

/* The ids of one candidate field, for candidates begin to end - 1. */
typedef struct {
    int32_t name, begin, end, missing;
    int64_t stride;
} absorb_column;

/* The buckets of a numeric field: bucket b has the id first + b and begins at edges[b - 1]. */
typedef struct {
    const double *edges; /* [number], rising */
    int64_t number, first;
} absorb_edges;

/* 1 if the body of a score request was read, 0 if it is left to another reader. */
ABSORB_API int32_t absorb_read_score(const uint8_t *body, int64_t length, int32_t *head, const absorb_room *room);

/* Put ids, none of them twice, into an empty table. `ends`: where each id ends in the text. */
ABSORB_API void absorb_fill_table(absorb_table *table, const uint32_t *ends, const int32_t *rows, int64_t num_ids);

/* Rows of the ids in `spans`; `missing` for those that the table does not hold. Returns how many those are. */
ABSORB_API int64_t absorb_find_rows(const absorb_table *table, const uint8_t *body, const int32_t *spans,
                                    int64_t num_spans, int32_t missing, int64_t *rows);

/* Ids of the values in `cells` that are in `column`; the others stay as they are. */
ABSORB_API void absorb_find_cells(const absorb_table *table, const uint8_t *body, const int32_t *cells,
                                  int64_t num_cells, const absorb_column *column, int64_t *ids);

/* Ids of the buckets of the numbers in `cells` that are in `column`; the others stay as they are. Returns how many of the
 * column's values are not read here: not all of them are texts of at most 15 digits with a point or without. */
ABSORB_API int64_t absorb_find_buckets(const absorb_edges *edges, const uint8_t *body, const int32_t *cells,
                                       int64_t num_cells, const absorb_column *column, int64_t *ids);

#endif
