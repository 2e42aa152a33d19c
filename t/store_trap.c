#include "t/store_trap.h"

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

enum { RANGES_MAX = 4 };

static struct {
    store_trap_t call; /* NULL: off */
    void *user;
    struct {
        uintptr_t from, to;
    } ranges[RANGES_MAX];
    unsigned range_count;
} trap;

void store_trap_begin(store_trap_t call, void *user)
{
    trap.call = call;
    trap.user = user;
    trap.range_count = 0;
}

void store_trap_watch(const void *at, size_t size)
{
    assert(trap.range_count < RANGES_MAX);
    trap.ranges[trap.range_count].from = (uintptr_t)at;
    trap.ranges[trap.range_count].to = (uintptr_t)at + size;
    trap.range_count++;
}

void store_trap_end(void)
{
    trap.call = NULL;
}

#ifdef STORE_TRAP
static bool watched(uintptr_t at, size_t size)
{
    for (unsigned i = 0; i < trap.range_count; i++)
        if (at < trap.ranges[i].to && at + size > trap.ranges[i].from)
            return true;
    return false;
}

static void on_store(const volatile void *at, size_t size)
{
    if (trap.call == NULL || !watched((uintptr_t)at, size))
        return;
    __typeof__(trap) saved = trap;
    trap.call = NULL;
    saved.call(saved.user, (void *)(uintptr_t)at, size);
    trap = saved;
}

/* ---- what the instrumentation calls ---- */

#define PLAIN(name)                                                                                \
    void name(void *at);                                                                           \
    void name(void *at)
#define IGNORED(name)                                                                              \
    PLAIN(name)                                                                                    \
    {                                                                                              \
        (void)at;                                                                                  \
    }
#define WRITTEN(name, size)                                                                        \
    PLAIN(name)                                                                                    \
    {                                                                                              \
        on_store(at, size);                                                                        \
    }

void __tsan_init(void);
void __tsan_init(void)
{
}
void __tsan_func_exit(void);
void __tsan_func_exit(void)
{
}
IGNORED(__tsan_func_entry)
IGNORED(__tsan_read1)
IGNORED(__tsan_read2)
IGNORED(__tsan_read4)
IGNORED(__tsan_read8)
IGNORED(__tsan_read16)
IGNORED(__tsan_unaligned_read2)
IGNORED(__tsan_unaligned_read4)
IGNORED(__tsan_unaligned_read8)
IGNORED(__tsan_unaligned_read16)
IGNORED(__tsan_volatile_read1)
IGNORED(__tsan_volatile_read2)
IGNORED(__tsan_volatile_read4)
IGNORED(__tsan_volatile_read8)
WRITTEN(__tsan_write1, 1)
WRITTEN(__tsan_write2, 2)
WRITTEN(__tsan_write4, 4)
WRITTEN(__tsan_write8, 8)
WRITTEN(__tsan_write16, 16)
WRITTEN(__tsan_unaligned_write2, 2)
WRITTEN(__tsan_unaligned_write4, 4)
WRITTEN(__tsan_unaligned_write8, 8)
WRITTEN(__tsan_unaligned_write16, 16)
WRITTEN(__tsan_volatile_write1, 1)
WRITTEN(__tsan_volatile_write2, 2)
WRITTEN(__tsan_volatile_write4, 4)
WRITTEN(__tsan_volatile_write8, 8)

void __tsan_read_range(void *at, unsigned long size);
void __tsan_read_range(void *at, unsigned long size)
{
    (void)at;
    (void)size;
}

void __tsan_write_range(void *at, unsigned long size);
void __tsan_write_range(void *at, unsigned long size)
{
    on_store(at, size);
}

void __tsan_atomic_thread_fence(int order);
void __tsan_atomic_thread_fence(int order)
{
    (void)order;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void __tsan_atomic_signal_fence(int order);
void __tsan_atomic_signal_fence(int order)
{
    (void)order;
}

#define FETCH(bits, what)                                                                          \
    uint##bits##_t __tsan_atomic##bits##_fetch_##what(volatile uint##bits##_t *at,                 \
                                                      uint##bits##_t value, int order);            \
    uint##bits##_t __tsan_atomic##bits##_fetch_##what(volatile uint##bits##_t *at,                 \
                                                      uint##bits##_t value, int order)             \
    {                                                                                              \
        (void)order;                                                                               \
        on_store(at, sizeof(*at));                                                                 \
        return __atomic_fetch_##what(at, value, __ATOMIC_SEQ_CST);                                 \
    }

#define EXCHANGE(bits, strength, weak)                                                             \
    int __tsan_atomic##bits##_compare_exchange_##strength(                                         \
        volatile uint##bits##_t *at, uint##bits##_t *expected, uint##bits##_t value, int order,    \
        int order_else);                                                                           \
    int __tsan_atomic##bits##_compare_exchange_##strength(                                         \
        volatile uint##bits##_t *at, uint##bits##_t *expected, uint##bits##_t value, int order,    \
        int order_else)                                                                            \
    {                                                                                              \
        (void)order;                                                                               \
        (void)order_else;                                                                          \
        on_store(at, sizeof(*at));                                                                 \
        return __atomic_compare_exchange_n(at, expected, value, weak, __ATOMIC_SEQ_CST,            \
                                           __ATOMIC_SEQ_CST);                                      \
    }

#define ATOMIC(bits)                                                                               \
    uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t *at, int order);       \
    uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t *at, int order)        \
    {                                                                                              \
        (void)order;                                                                               \
        return __atomic_load_n(at, __ATOMIC_SEQ_CST);                                              \
    }                                                                                              \
    void __tsan_atomic##bits##_store(volatile uint##bits##_t *at, uint##bits##_t value,            \
                                     int order);                                                   \
    void __tsan_atomic##bits##_store(volatile uint##bits##_t *at, uint##bits##_t value, int order) \
    {                                                                                              \
        (void)order;                                                                               \
        on_store(at, sizeof(*at));                                                                 \
        __atomic_store_n(at, value, __ATOMIC_SEQ_CST);                                             \
    }                                                                                              \
    uint##bits##_t __tsan_atomic##bits##_exchange(volatile uint##bits##_t *at,                     \
                                                  uint##bits##_t value, int order);                \
    uint##bits##_t __tsan_atomic##bits##_exchange(volatile uint##bits##_t *at,                     \
                                                  uint##bits##_t value, int order)                 \
    {                                                                                              \
        (void)order;                                                                               \
        on_store(at, sizeof(*at));                                                                 \
        return __atomic_exchange_n(at, value, __ATOMIC_SEQ_CST);                                   \
    }                                                                                              \
    EXCHANGE(bits, strong, false)                                                                  \
    EXCHANGE(bits, weak, true)                                                                     \
    FETCH(bits, add)                                                                               \
    FETCH(bits, sub)                                                                               \
    FETCH(bits, and)                                                                               \
    FETCH(bits, or)                                                                                \
    FETCH(bits, xor)

ATOMIC(8)
ATOMIC(16)
ATOMIC(32)
ATOMIC(64)

/* ---- the linker gives us these calls (-Wl,--wrap) ---- */

void *__real_memcpy(void *to, const void *from, size_t size);
void *__real_memmove(void *to, const void *from, size_t size);
void *__real_memset(void *to, int byte, size_t size);
void *__wrap_memcpy(void *to, const void *from, size_t size);
void *__wrap_memmove(void *to, const void *from, size_t size);
void *__wrap_memset(void *to, int byte, size_t size);

/* As far as the next multiple of eight. */
static size_t unit_at(const uint8_t *at, size_t left)
{
    size_t unit = 8 - (uintptr_t)at % 8;
    return unit < left ? unit : left;
}

static bool is_trapped(const void *to, size_t size)
{
    return trap.call != NULL && watched((uintptr_t)to, size);
}

void *__wrap_memcpy(void *to, const void *from, size_t size)
{
    if (!is_trapped(to, size))
        return __real_memcpy(to, from, size);
    for (size_t done = 0, unit; done < size; done += unit) {
        uint8_t *at = (uint8_t *)to + done;
        unit = unit_at(at, size - done);
        on_store(at, unit);
        __real_memcpy(at, (const uint8_t *)from + done, unit);
    }
    return to;
}

/* One store: no code under test moves what overlaps inside a medium. */
void *__wrap_memmove(void *to, const void *from, size_t size)
{
    on_store(to, size);
    return __real_memmove(to, from, size);
}

void *__wrap_memset(void *to, int byte, size_t size)
{
    if (!is_trapped(to, size))
        return __real_memset(to, byte, size);
    for (size_t done = 0, unit; done < size; done += unit) {
        uint8_t *at = (uint8_t *)to + done;
        unit = unit_at(at, size - done);
        on_store(at, unit);
        __real_memset(at, byte, unit);
    }
    return to;
}
#endif
