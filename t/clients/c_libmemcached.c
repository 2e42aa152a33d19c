/* libmemcached from C: single keys, many keys, cas, numbers, buffered and quiet requests, a pool of
 * all nodes, SASL. Usage: c_libmemcached text|binary|sasl PORT... (written through the first, read
 * through the last). */
#include <assert.h>
#include <libmemcached/memcached.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LARGE = 900000, MANY = 200, NAME_SIZE = 32 };

static void check(const char *what, bool right, memcached_st *client)
{
    if (!right) {
        printf("FAILED %s: %s\n", what, memcached_last_error_message(client));
        exit(1);
    }
    printf("ok %s\n", what);
}

static memcached_st *new_client(const char *mode, char **ports, int count)
{
    memcached_st *client = memcached_create(NULL);
    bool binary = strcmp(mode, "text") != 0;
    memcached_behavior_set(client, MEMCACHED_BEHAVIOR_BINARY_PROTOCOL, binary);
    memcached_behavior_set(client, MEMCACHED_BEHAVIOR_SUPPORT_CAS, 1);
    memcached_behavior_set(client, MEMCACHED_BEHAVIOR_POLL_TIMEOUT, 20000);
    if (strcmp(mode, "sasl") == 0)
        memcached_set_sasl_auth_data(client, "user", "secret word");
    for (int i = 0; i < count; i++)
        memcached_server_add(client, "127.0.0.1", (in_port_t)atoi(ports[i]));
    return client;
}

static memcached_return_t set(memcached_st *client, const char *key, const char *value,
                              uint32_t flags)
{
    return memcached_set(client, key, strlen(key), value, strlen(value), 0, flags);
}

static bool has(memcached_st *client, const char *key, const char *wanted, uint32_t wanted_flags)
{
    size_t size;
    uint32_t flags;
    memcached_return_t result;
    char *value = memcached_get(client, key, strlen(key), &size, &flags, &result);
    if (wanted != NULL && wanted[0] == 0) /* of an empty value libmemcached gives no pointer */
        return value == NULL && result == MEMCACHED_SUCCESS && size == 0;
    bool same = wanted == NULL ? value == NULL && result == MEMCACHED_NOTFOUND
                               : value != NULL && size == strlen(wanted) &&
                                     memcmp(value, wanted, size) == 0 && flags == wanted_flags;
    free(value);
    return same;
}

static void single_keys(memcached_st *writer, memcached_st *reader)
{
    check("set", set(writer, "a", "value", 0xfffffffe) == MEMCACHED_SUCCESS, writer);
    check("get, with 32 bits of flags", has(reader, "a", "value", 0xfffffffe), reader);
    check("a miss", has(reader, "nothing", NULL, 0), reader);
    check("add of what is there", memcached_add(writer, "a", 1, "x", 1, 0, 0) != MEMCACHED_SUCCESS,
          writer);
    check("add", memcached_add(writer, "b", 1, "x", 1, 0, 7) == MEMCACHED_SUCCESS, writer);
    check("replace of what is not there",
          memcached_replace(writer, "absent", 6, "x", 1, 0, 0) != MEMCACHED_SUCCESS, writer);
    check("replace", memcached_replace(writer, "b", 1, "middle", 6, 0, 7) == MEMCACHED_SUCCESS,
          writer);
    check("append", memcached_append(writer, "b", 1, "-end", 4, 0, 0) == MEMCACHED_SUCCESS, writer);
    check("prepend", memcached_prepend(writer, "b", 1, "begin-", 6, 0, 0) == MEMCACHED_SUCCESS,
          writer);
    check("appended and prepended, flags kept", has(reader, "b", "begin-middle-end", 7), reader);
    check("append to nothing",
          memcached_append(writer, "absent", 6, "x", 1, 0, 0) == MEMCACHED_NOTSTORED, writer);
    check("exist", memcached_exist(reader, "b", 1) == MEMCACHED_SUCCESS, reader);
    check("exist not", memcached_exist(reader, "absent", 6) == MEMCACHED_NOTFOUND, reader);
    check("touch", memcached_touch(writer, "b", 1, 100) == MEMCACHED_SUCCESS, writer);
    check("touch of nothing", memcached_touch(writer, "absent", 6, 100) == MEMCACHED_NOTFOUND,
          writer);
    check("delete", memcached_delete(writer, "b", 1, 0) == MEMCACHED_SUCCESS, writer);
    check("deleted", has(reader, "b", NULL, 0), reader);
    check("delete of nothing", memcached_delete(writer, "b", 1, 0) == MEMCACHED_NOTFOUND, writer);
    check("gone at once", memcached_set(writer, "gone", 4, "x", 1, 2592001, 0) == MEMCACHED_SUCCESS,
          writer);
    check("gone", has(reader, "gone", NULL, 0), reader);
}

static void numbers(memcached_st *writer, memcached_st *reader)
{
    uint64_t number = 0;
    check("set a number", set(writer, "n", "10", 0) == MEMCACHED_SUCCESS, writer);
    check("increment",
          memcached_increment(writer, "n", 1, 5, &number) == MEMCACHED_SUCCESS && number == 15,
          writer);
    check("decrement",
          memcached_decrement(reader, "n", 1, 20, &number) == MEMCACHED_SUCCESS && number == 0,
          reader);
    check("increment of nothing",
          memcached_increment(writer, "m", 1, 5, &number) == MEMCACHED_NOTFOUND, writer);
    if (memcached_behavior_get(writer, MEMCACHED_BEHAVIOR_BINARY_PROTOCOL) == 0)
        return;
    check("increment with an initial value",
          memcached_increment_with_initial(writer, "m", 1, 5, 1000, 0, &number) ==
                  MEMCACHED_SUCCESS &&
              number == 1000,
          writer);
    check("and again",
          memcached_increment_with_initial(reader, "m", 1, 5, 1000, 0, &number) ==
                  MEMCACHED_SUCCESS &&
              number == 1005,
          reader);
    check("its value is text", has(reader, "m", "1005", 0), reader);
}

static uint64_t cas_of(memcached_st *client, const char *key)
{
    const char *keys[] = {key};
    size_t sizes[] = {strlen(key)};
    memcached_return_t result;
    uint64_t cas = 0;
    memcached_mget(client, keys, sizes, 1);
    for (memcached_result_st *found;
         (found = memcached_fetch_result(client, NULL, &result)) != NULL;) {
        cas = memcached_result_cas(found);
        memcached_result_free(found);
    }
    return cas;
}

static void cas(memcached_st *writer, memcached_st *reader)
{
    uint64_t unique = cas_of(reader, "a");
    check("a cas unique", unique != 0, reader);
    check("cas", memcached_cas(writer, "a", 1, "new", 3, 0, 1, unique) == MEMCACHED_SUCCESS,
          writer);
    check("cas that is late",
          memcached_cas(reader, "a", 1, "late", 4, 0, 1, unique) == MEMCACHED_DATA_EXISTS, reader);
    check("cas of nothing",
          memcached_cas(writer, "absent", 6, "x", 1, 0, 0, unique) == MEMCACHED_NOTFOUND, writer);
    check("the first one is there", has(reader, "a", "new", 1), reader);
}

static unsigned count_found(memcached_st *client, const char *prefix)
{
    static char names[MANY][NAME_SIZE];
    const char *keys[MANY];
    size_t sizes[MANY];
    memcached_return_t result;
    unsigned count = 0;
    for (int i = 0; i < MANY; i++) {
        sizes[i] = (size_t)snprintf(names[i], NAME_SIZE, "%s%d", prefix, i);
        keys[i] = names[i];
    }
    if (memcached_mget(client, keys, sizes, MANY) != MEMCACHED_SUCCESS)
        return 0;
    for (memcached_result_st *found;
         (found = memcached_fetch_result(client, NULL, &result)) != NULL; count++)
        memcached_result_free(found);
    return count;
}

static void set_many(memcached_st *client, const char *prefix)
{
    for (int i = 0; i < MANY; i++) {
        char name[NAME_SIZE];
        snprintf(name, sizeof(name), "%s%d", prefix, i);
        memcached_return_t result = set(client, name, "value", 0);
        assert(result == MEMCACHED_SUCCESS || result == MEMCACHED_BUFFERED);
    }
}

static void many_keys(const char *mode, char **ports, int count)
{
    memcached_st *reader = new_client(mode, ports + count - 1, 1);
    memcached_st *buffered = new_client(mode, ports, 1);
    memcached_behavior_set(buffered, MEMCACHED_BEHAVIOR_BUFFER_REQUESTS, 1);
    set_many(buffered, "buffered");
    check("buffered sets", memcached_flush_buffers(buffered) == MEMCACHED_SUCCESS, buffered);
    check("the last of them", has(buffered, "buffered199", "value", 0),
          buffered); /* behind all others */
    check("mget finds them", count_found(reader, "buffered") == MANY, reader);
    memcached_st *quiet = new_client(mode, ports, 1);
    memcached_behavior_set(quiet, MEMCACHED_BEHAVIOR_NOREPLY, 1);
    set_many(quiet, "quiet");
    memcached_behavior_set(quiet, MEMCACHED_BEHAVIOR_NOREPLY, 0);
    check("an answer behind quiet sets", set(quiet, "last", "x", 0) == MEMCACHED_SUCCESS, quiet);
    check("mget finds the quiet ones", count_found(reader, "quiet") == MANY, reader);
    memcached_st *pool = new_client(mode, ports, count);
    set_many(pool, "pool");
    check("a pool of all nodes", count_found(pool, "pool") == MANY, pool);
    check("every node has all", count_found(reader, "pool") == MANY, reader);
    check("version", memcached_version(pool) == MEMCACHED_SUCCESS, pool);
    memcached_free(pool);
    memcached_free(quiet);
    memcached_free(buffered);
    memcached_free(reader);
}

static void large(memcached_st *writer, memcached_st *reader)
{
    static char value[LARGE];
    size_t size;
    uint32_t flags;
    memcached_return_t result;
    memset(value, 'x', sizeof(value));
    check("set large",
          memcached_set(writer, "large", 5, value, sizeof(value), 0, 0) == MEMCACHED_SUCCESS,
          writer);
    char *got = memcached_get(reader, "large", 5, &size, &flags, &result);
    check("get large", got != NULL && size == LARGE && memcmp(got, value, LARGE) == 0, reader);
    free(got);
    result = memcached_set(writer, "large", 5, value, 0, 0, 0);
    check("set empty", result == MEMCACHED_SUCCESS, writer);
    check("get empty", has(reader, "large", "", 0), reader);
}

static void stats(memcached_st *reader)
{
    memcached_return_t result;
    memcached_stat_st *found = memcached_stat(reader, NULL, &result);
    check("stat", found != NULL && result == MEMCACHED_SUCCESS, reader);
    char *pid = memcached_stat_get_value(reader, found, "pid", &result);
    check("stat pid", pid != NULL && atoi(pid) > 0, reader);
    free(pid);
    memcached_stat_free(reader, found);
}

static void wrong_password(char **ports)
{
    memcached_st *stranger = new_client("binary", ports, 1);
    memcached_set_sasl_auth_data(stranger, "user", "wrong");
    check("a wrong password is refused", set(stranger, "a", "x", 0) != MEMCACHED_SUCCESS, stranger);
    memcached_free(stranger);
}

int main(int count, char **words)
{
    assert(count > 2);
    const char *mode = words[1];
    memcached_st *writer = new_client(mode, words + 2, 1);
    memcached_st *reader = new_client(mode, words + count - 1, 1);
    setvbuf(stdout, NULL, _IOLBF, 0);
    check("flush", memcached_flush(writer, 0) == MEMCACHED_SUCCESS, writer);
    single_keys(writer, reader);
    numbers(writer, reader);
    cas(writer, reader);
    large(writer, reader);
    many_keys(mode, words + 2, count - 2);
    stats(reader);
    check("flush", memcached_flush(writer, 0) == MEMCACHED_SUCCESS, writer);
    check("all is gone", has(reader, "a", NULL, 0), reader);
    if (strcmp(mode, "sasl") == 0)
        wrong_password(words + 2);
    memcached_free(reader);
    memcached_free(writer);
    return 0;
}
