/* Draws the messages of each batch from a pseudo-random sequence that all ranks share.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "soak-plan.h"

/* A sequence of pseudo-random numbers. */
struct draw {
    uint64_t state;
};

static uint64_t draw_next(struct draw *draw)
{
    draw->state += 0x9e3779b97f4a7c15u;
    return soak_mix(draw->state);
}

/* Returns a number below 'limit'. */
static uint64_t draw_below(struct draw *draw, uint64_t limit)
{
    return draw_next(draw) % limit;
}

const char *soak_pattern_name(unsigned pattern)
{
    static const char *const names[SOAK_PATTERN_COUNT] = {"mixed", "ring", "pairs", "all",
                                                          "random"};

    return pattern < SOAK_PATTERN_COUNT ? names[pattern] : NULL;
}

/* Small messages are frequent, large ones carry most of the bytes; sizes right at powers of two
 * are where protocols change. */
static size_t draw_size(struct draw *draw, size_t min, size_t max)
{
    static const struct {
        unsigned percent;
        unsigned low_bits, high_bits; /* from 2^low to 2^high bytes */
    } kinds[] = {{24, 0, 6}, {32, 6, 12}, {20, 12, 16}, {14, 16, 20}, {5, 20, 23}};
    uint64_t percent = draw_below(draw, 100), size;
    unsigned i, bits;

    if (percent < 5)
        return min;
    percent -= 5;
    for (i = 0; percent >= kinds[i].percent; i++)
        percent -= kinds[i].percent;
    bits = kinds[i].low_bits + (unsigned)draw_below(draw, kinds[i].high_bits - kinds[i].low_bits);
    size = UINT64_C(1) << bits;
    switch (draw_below(draw, 4)) {
    case 0:
        size -= draw_below(draw, 2);
        break; /* at the power of two, or just below */
    case 1:
        size *= 2;
        break;
    default:
        size += draw_below(draw, size + 1);
    }
    if (size < min)
        size += min;
    return size < max ? size : max;
}

static uint32_t draw_destination(struct draw *draw, const struct soak_plan *plan,
                                 enum soak_pattern pattern, uint32_t shift, uint32_t src,
                                 unsigned index)
{
    uint32_t others = plan->ranks - 1;

    switch (pattern) {
    case SOAK_PATTERN_RING:
        return (src + (index % 2 ? others : 1)) % plan->ranks;
    case SOAK_PATTERN_PAIRS:
        return (src + shift) % plan->ranks;
    case SOAK_PATTERN_ALL:
        return (src + 1 + (shift + index) % others) % plan->ranks;
    default:
        return (src + 1 + (uint32_t)draw_below(draw, others)) % plan->ranks;
    }
}

static enum soak_stream draw_stream(struct draw *draw)
{
    uint64_t percent = draw_below(draw, 100);

    if (percent < 50)
        return SOAK_STREAM_NAMED;
    if (percent < 65)
        return SOAK_STREAM_ORDERED;
    if (percent < 77)
        return SOAK_STREAM_ANY_TAG;
    return percent < 89 ? SOAK_STREAM_ANY_SOURCE : SOAK_STREAM_ANY;
}

static enum soak_layout_kind draw_layout(struct draw *draw)
{
    uint64_t percent = draw_below(draw, 100);

    if (percent < 70)
        return SOAK_CONTIGUOUS;
    return percent < 85 ? SOAK_VECTOR : SOAK_INDEXED;
}

static void draw_message(struct draw *draw, const struct soak_plan *plan, struct soak_message *m)
{
    m->stream = draw_stream(draw);
    m->size = draw_size(draw, plan->min_size, plan->max_size);
    m->send_layout = draw_layout(draw);
    m->receive_layout = draw_layout(draw);
    m->send = (enum soak_send)draw_below(draw, 4);
    m->receive = (enum soak_receive)draw_below(draw, 3);
    m->tag = (int)draw_below(draw, 1000);
    if (m->stream == SOAK_STREAM_NAMED)
        return;
    /* Their order is what is tested: sends and, but for wildcard sources, receives are posted in
     * the order of the plan, before anything waits. */
    m->send = m->send == SOAK_ISSEND || m->send == SOAK_SSEND ? SOAK_ISSEND : SOAK_ISEND;
    if (!soak_stream_is_wild(m->stream)) {
        m->receive = SOAK_IRECV;
        return;
    }
    /* The receiver does not know which message it gets: it must say itself. */
    m->receive_layout = SOAK_CONTIGUOUS;
    if (m->size < SOAK_STAMP_SIZE)
        m->size += SOAK_STAMP_SIZE;
    if (m->size > SOAK_WILDCARD_MAX)
        m->size = SOAK_WILDCARD_MAX - m->size % 1024;
}

static struct draw batch_draw(const struct soak_plan *plan, uint64_t batch, uint64_t purpose)
{
    return (struct draw){soak_mix(soak_mix(plan->seed ^ purpose) ^ batch)};
}

unsigned soak_plan_batch(const struct soak_plan *plan, uint64_t batch, struct soak_message *list)
{
    struct draw draw = batch_draw(plan, batch, 1);
    enum soak_pattern pattern = plan->pattern;
    uint32_t shift = 1 + (uint32_t)draw_below(&draw, plan->ranks - 1), src;
    unsigned index, count = 0, number = 0;
    struct soak_message message = {0};

    if (pattern == SOAK_PATTERN_MIXED)
        pattern = SOAK_PATTERN_RING + (enum soak_pattern)draw_below(&draw, SOAK_PATTERN_RANDOM);
    for (index = 0; index < plan->per_rank; index++) {
        for (src = 0; src < plan->ranks; src++, number++) {
            message.src = src;
            message.dst = draw_destination(&draw, plan, pattern, shift, src, index);
            draw_message(&draw, plan, &message);
            /* Nothing else in this batch, or in one that may overlap it, has this tag. */
            if (message.stream == SOAK_STREAM_NAMED)
                message.tag = (int)(number % 4096 + 4096 * (batch % 4));
            else if (message.stream == SOAK_STREAM_ANY_SOURCE)
                message.tag = (int)(batch % 1024);
            else if (message.stream == SOAK_STREAM_ORDERED)
                message.tag = 16384;
            if (message.src == plan->me || message.dst == plan->me)
                list[count++] = message;
        }
    }
    return count;
}

enum soak_wait soak_plan_wait(const struct soak_plan *plan, uint64_t batch)
{
    struct draw draw = batch_draw(plan, batch, 2 + plan->me);

    return (enum soak_wait)draw_below(&draw, 3);
}

bool soak_plan_persistent(const struct soak_plan *plan, uint64_t batch)
{
    struct draw draw = batch_draw(plan, batch, UINT64_C(1) << 40);

    return draw_below(&draw, 4) == 0;
}
