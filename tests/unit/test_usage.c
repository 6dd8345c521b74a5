/* The command line: help, and what is typed wrongly. Each mistake is refused before anything is opened: status 2, nothing on standard output, one line that
 * says what is wrong, and where to read more. */

#include <sys/resource.h>

#include "run_command.h"

static int set_up (void **state)
{
    (void) state;
    return unsetenv ("FACTMESH_SEED") || unsetenv ("FACTMESH_MESH");
}

static void expect_refused (const char *what, const struct run *r, const char *words)
{
    const char *const end = strchr (r->err, '\n'), *const said = strstr (r->err, words);
    if (r->status != CLI_USAGE || *r->out)
        fail_msg ("%s: status %d, printed '%s', said '%s'", what, r->status, r->out, r->err);
    if (!end || !said || said > end)
        fail_msg ("%s: '%s' does not say '%s'", what, r->err, words);
    if (end[1] && (strncmp (end + 1, "Try 'factmesh ", 14) != 0 || strchr (end + 1, '\n')[1]))
        fail_msg ("%s: more than a line: '%s'", what, r->err);
}

struct mistake {
    const char *line, *words;
};

#define EXPECT_REFUSED(mistakes) expect_all_refused (mistakes, sizeof mistakes / sizeof mistakes[0])
static void expect_all_refused (const struct mistake *mistakes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct run r;
        run_line (mistakes[i].line, &r);
        expect_refused (mistakes[i].line, &r, mistakes[i].words);
    }
}

static void every_command_tells_its_options (void **state)
{
    (void) state;
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        char line[64], first[64];
        struct run r, same, all;
        (void) snprintf (line, sizeof line, "%s --help", commands[i].name);
        run_line (line, &r);
        (void) snprintf (first, sizeof first, "usage: factmesh %s ", commands[i].name);
        assert_int_equal (r.status, 0);
        assert_string_equal (r.err, "");
        assert_memory_equal (r.out, first, strlen (first));
        assert_non_null (strstr (r.out, "\n  -h, --help               this text\n"));
        (void) snprintf (line, sizeof line, "help %s", commands[i].name);
        run_line (line, &same);
        assert_int_equal (same.status, 0);
        assert_string_equal (same.out, r.out);
        /* Only who joins a mesh is told how. */
        const bool offline = strstr (" inspect verify dump ", commands[i].name) != NULL;
        assert_int_equal (strstr (r.out, "--seed ADDR") == NULL, offline);
        run_line ("--help", &all);
        assert_non_null (strstr (all.out, commands[i].summary));
    }
}

static void the_command_without_one_says_what_there_is (void **state)
{
    (void) state;
    struct run asked, wrong;
    const char *const none[] = { NULL };
    run_args (none, NULL, &wrong);
    assert_int_equal (wrong.status, CLI_USAGE);
    assert_string_equal (wrong.out, "");
    static const char *const ways[] = { "help", "--help", "-h" };
    for (size_t i = 0; i < 3; i++) {
        run_line (ways[i], &asked);
        assert_int_equal (asked.status, 0);
        assert_string_equal (asked.out, wrong.err);
        assert_string_equal (asked.err, "");
    }
    run_line ("version", &asked);
    assert_string_equal (asked.out, "factmesh " FM_VERSION "\n");
    run_line ("--version", &wrong);
    assert_string_equal (asked.out, wrong.out);
    static const struct mistake mistakes[] = {
        { "publish", "there is no command 'publish'" },
        { "help publish", "there is no command 'publish'" },
        { "--seed tcp://127.0.0.1:1 pub", "options come behind the command" },
        { "version 2", "no argument is taken: '2'" },
    };
    EXPECT_REFUSED (mistakes);
}

static void output_full (void)
{
    (void) freopen ("/dev/full", "w", stdout);
}

static void help_that_cannot_be_written_is_an_error (void **state)
{
    (void) state;
    static const char *const lines[][3] = { { "--help" }, { "version" }, { "pub", "--help" }, { "verify", "--help" } };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct run r;
        run_args (lines[i], output_full, &r);
        assert_int_equal (r.status, CLI_ERROR);
        assert_non_null (strstr (r.err, ": cannot write to standard output: No space left on device\n"));
    }
}

static void no_descriptors (void)
{
    const struct rlimit none = { .rlim_cur = 0, .rlim_max = 0 };
    (void) close (STDIN_FILENO);
    (void) setrlimit (RLIMIT_NOFILE, &none);
}

static void no_input (void)
{
    (void) close (STDIN_FILENO);
}

static void standard_descriptors_are_there (void **state)
{
    (void) state;
    struct run r;
    static const char *const version[] = { "version", NULL };
    run_args (version, no_input, &r);
    assert_int_equal (r.status, 0);
    run_args (version, no_descriptors, &r);
    assert_int_equal (r.status, CLI_ERROR);
    assert_string_equal (r.out, "");
    assert_string_equal (r.err, "factmesh: /dev/null, for a standard descriptor that is closed: Too many open files\n");
}

static void common_options_are_checked (void **state)
{
    (void) state;
    static const struct mistake mistakes[] = {
        { "nodes --nonsense", "unrecognized option '--nonsense'" },
        { "status --seed", "requires an argument" },
        { "nodes --timeout soon", "--timeout: 'soon': not a length of time" },
        { "nodes --timeout 25d", "--timeout: '25d' is too long" },
        { "nodes --timeout 700000w", "--timeout: '700000w': longer than 584 years" },
        { "nodes --seed nonsense", "--seed: address 'nonsense'" },
        { "nodes --seed tcp://127.0.0.1:7400,", "no address behind the last comma" },
        { "FACTMESH_SEED=nonsense nodes", "FACTMESH_SEED: address 'nonsense'" },
        { "FACTMESH_SEED= nodes more", "no argument is taken: 'more'" },
        { "FACTMESH_MESH= nodes more", "no argument is taken: 'more'" },
        { "nodes --bind nonsense", "--bind: address 'nonsense'" },
        { "nodes --bind-live nonsense", "--bind-live: address 'nonsense'" },
        { "nodes --bind '' --bind-live nonsense", "--bind-live: address 'nonsense'" },
        { "nodes --advertise a:b:c", "--advertise: advertise: 'a:b:c' is no HOST" },
        { "nodes --advertise a --advertise-live tcp://a:1", "--advertise-live: advertise: 'tcp://a:1' is no HOST" },
        { "nodes --verbose -q --name n --advertise h --advertise-live h --timeout 1s more", "no argument is taken: 'more'" },
        { "status more", "no argument is taken: 'more'" },
        { "nodes --wait 0", "--wait: 0 is not between 1 and 4096" },
        { "nodes --wait -1", "--wait: '-1' is not a number" },
        { "journal", "which directory?" },
        { "journal a b", "one directory, please" },
        { "journal --segment-size 1K d", "--segment-size: 1K is not between 1M and 4G" },
        { "journal --segment-size 5G d", "--segment-size: 5G is not between 1M and 4G" },
        { "journal --segment-size big d", "--segment-size: 'big' is not a size" },
        { "journal --segment-age old d", "--segment-age: 'old' is not a length of time" },
        { "journal --retain-size -1 d", "--retain-size: '-1' is not a size" },
        { "journal --retain-size 99999999999G d", "--retain-size: '99999999999G' is too large" },
        { "journal --retain-age old d", "--retain-age: 'old' is not a length of time" },
        { "journal --blob-max big d", "--blob-max: 'big' is not a size" },
        { "journal --blob-lease 1x d", "--blob-lease: '1x' is not a length of time" },
        { "journal --blob-sweep '' d", "--blob-sweep: '' is not a length of time" },
        { "journal --blob-sweep 50d --address-file f --http 127.0.0.1:0 --seed nonsense d", "--seed: address 'nonsense'" },
    };
    EXPECT_REFUSED (mistakes);
}

/* --- Who takes facts. */

static void options_of_readers_are_checked (void **state)
{
    (void) state;
    static const struct mistake mistakes[] = {
        { "sub --long --json", "--long, --json, --raw, --null and --format exclude each other" },
        { "sub --raw --null", "exclude each other" },
        { "sub --format %p --raw", "exclude each other" },
        { "sub --format %q", "no directive '%q'" },
        { "sub --format %", "no directive '% '" },
        { "sub --format \\q", "no escape '\\q'" },
        { "sub --format \\", "no escape '\\ '" },
        { "sub --format %o", "is for factmesh dump" },
        { "sub --from yesterday", "--from: 'yesterday': write start, end" },
        { "sub --from @yesterday", "'@yesterday': not a time" },
        { "sub --from -0", "'-0': write -100 for the last 100 facts" },
        { "sub --from cursor:", "'cursor:': write start" },
        { "sub --from offset:7", "--from offset:N is for factmesh replay" },
        { "sub --until start", "--until: write end or @TIME" },
        { "sub --until later", "--until: 'later': write end or @TIME" },
        { "sub --cursor c --until @now", "which a --cursor would pass over for good" },
        { "sub --cursor ''", "--cursor: a name has 1 to 127 bytes" },
        { "sub --cursor c --no-journal", "--no-journal excludes --cursor" },
        { "sub --synced --no-journal", "--no-journal excludes --cursor" },
        { "sub --fetch --no-journal", "--no-journal excludes --cursor" },
        { "sub --from start --no-journal", "--no-journal excludes --cursor" },
        { "sub --fetch=0", "--fetch: 0 is not between 1 and 1G" },
        { "sub --fetch=2G", "--fetch: 2G is not between 1 and 1G" },
        { "sub --fetch=much", "--fetch: 'much' is not a size" },
        { "sub -n 0", "--count: 0 is not between 1 and" },
        { "sub --force --fail-on-gap a..b", "pattern" },
        { "replay --from end", "--from end: nothing is recorded there yet" },
        { "replay --from nowhere", "--from: 'nowhere': write start" },
        { "replay --until start", "--until: write end, @TIME or offset:N" },
        { "replay --until nowhere", "--until: 'nowhere': write end" },
        { "replay --from offset:2 --until offset:1", "--until lies before --from" },
        { "replay --from offset:0", "'offset:0': a journal's first offset is 1" },
        { "replay --from offset:x", "'offset:x': no number behind offset:" },
        { "replay --stream x", "--stream: " },
        { "replay --stream 00000000000000000000000000000000", "--stream: no stream has the id 0" },
        { "replay --fetch=0", "--fetch: 0 is not between 1 and 1G" },
        { "replay --format %q", "no directive '%q'" },
        { "replay --stats --fail-on-gap --duplicates --journal 1 a..b", "pattern" },
        { "get", "usage: factmesh get TOPIC KEY" },
        { "get topic key more", "usage: factmesh get TOPIC KEY" },
        { "get topic", "'topic': write TOPIC KEY, or STREAM:SEQ" },
        { "get a..b key", "topic" },
        { "get topic key --format %q", "no directive '%q'" },
        { "get topic key --journal 1 --json --raw", "exclude each other" },
        { "get --wrong", "unrecognized option '--wrong'" },
        { "trace", "which fact?" },
        { "trace 17", "which fact?" },
        { "trace --max 0 --json --journal 1", "--max: 0 is not between 1 and 1000000" },
        { "correct", "usage: factmesh correct STREAM:SEQ [TEXT]" },
        { "correct 17 text", "usage: factmesh correct STREAM:SEQ [TEXT]" },
        { "correct --stream s --wrong", "unrecognized option '--wrong'" },
        { "status --json --streams --journal 1 more", "no argument is taken: 'more'" },
    };
    EXPECT_REFUSED (mistakes);
}

static void options_of_directories_are_checked (void **state)
{
    (void) state;
    static const struct mistake mistakes[] = {
        { "inspect", "which directory?" },
        { "inspect a b", "one directory at a time" },
        { "inspect --topics many a", "--topics: 'many' is not a number" },
        { "inspect --json --wrong", "unrecognized option '--wrong'" },
        { "verify", "which directory?" },
        { "verify a b", "one directory at a time" },
        { "verify --json --wrong", "unrecognized option '--wrong'" },
        { "dump", "which directory?" },
        { "dump --from x d", "--from: 'x' is not a number" },
        { "dump --until 0 d", "--until: 0 is not between 1 and" },
        { "dump --json --null d", "exclude each other" },
        { "dump --format %q d", "no directive '%q'; there are %ptkyciSsTNCADho" },
        { "dump d a..b", "pattern" },
        { "repair", "which directory?" },
        { "repair a b", "one directory at a time" },
        { "repair a --from ''", "--from: the address of a journal, or a directory" },
        { "repair a --from tcp://127.0.0.1", "--from: address 'tcp://127.0.0.1': no port" },
        { "repair a --journal 1 --dry-run --json --wrong", "unrecognized option '--wrong'" },
    };
    EXPECT_REFUSED (mistakes);
}

/* --- Who publishes. */

static void options_of_pub_are_checked (void **state)
{
    (void) state;
    static const struct mistake mistakes[] = {
        { "pub", "which topic?" },
        { "pub a..b text", "topic" },
        { "pub a --csv --json", "--null, --whole, --csv and --json exclude each other" },
        { "pub a --null --whole", "exclude each other" },
        { "pub a --header x", "--header: 'x' is not NAME=VALUE" },
        { "pub a --header =x", "--header: '=x' is not NAME=VALUE" },
        { "pub a --csv --delimiter two", "--delimiter: 'two' is not one character" },
        { "pub a --csv --delimiter \"", "--delimiter: '\"' is not one character" },
        { "pub a --csv --delimiter ''", "--delimiter: '' is not one character" },
        { "pub a --delimiter tab", "--raw and --delimiter need --csv" },
        { "pub a --delimiter ;", "--raw and --delimiter need --csv" },
        { "pub a --raw", "--raw and --delimiter need --csv" },
        { "pub a --topic-column c", "--topic-column needs --csv or --json" },
        { "pub a --payload-max x", "--payload-max: 'x' is not a size" },
        { "pub a --payload-max 0", "--payload-max: a payload has at least 1 byte" },
        { "pub a --payload-max 65M", "--payload-max: more than 64M; --blob-over" },
        { "pub a --payload-max 2G --blob-over 1K", "--payload-max: more than 1G" },
        { "pub a --blob-over x", "--blob-over: 'x' is not a size" },
        { "pub a --blob-over 0", "--blob-over: 0 is not between 1 and 64M" },
        { "pub a --blob-over 65M", "--blob-over: 65M is not between 1 and 64M" },
        { "pub a --blob-over 1K --no-wait", "--no-wait waits for no journal, and --blob-over needs one" },
        { "pub a --no-wait --ack-log f", "it excludes --ack-log and --journals" },
        { "pub a --no-wait --journals 1", "it excludes --ack-log and --journals" },
        { "pub a text --file f", "facts come from arguments or from files, not both" },
        { "pub a text --whole", "facts come from arguments or from files, not both" },
        { "pub a --stream s --identity d", "--stream, --identity and --ephemeral exclude each other" },
        { "pub a --stream s --ephemeral", "exclude each other" },
        { "pub a --stream ''", "--stream: an empty name" },
        { "pub a --window-on-disk --ephemeral", "--window-on-disk needs a stream that is kept" },
        { "pub a --window-on-disk=often", "--window-on-disk=often: it is --window-on-disk, or" },
        { "pub a --causation 17", "--causation: '17' is not STREAM:SEQ" },
        { "pub a --rate 0", "--rate: 0 is not between 1 and" },
        { "pub a -t T --content-type c --correlation c --tombstone --print-ids --lost-again --fact-identity i --wrong", "unrecognized option '--wrong'" },
    };
    EXPECT_REFUSED (mistakes);
}

static void options_of_bench_are_checked (void **state)
{
    (void) state;
    static const struct mistake mistakes[] = {
        { "bench", "which one? bench pub, sub, latency or replay" },
        { "bench nothing", "'nothing': bench has pub, sub, latency and replay" },
        { "bench pub topic", "'topic': bench pub takes no arguments" },
        { "bench latency topic", "'topic': bench latency takes no arguments" },
        { "bench sub --rate 3", "bench sub publishes nothing" },
        { "bench replay --topic t", "bench replay publishes nothing" },
        { "bench sub a..b", "pattern" },
        { "bench pub --count 0", "--count: 0 is not between 1 and" },
        { "bench pub --size 15", "--size: 15 is not between 16 and 1M" },
        { "bench pub --size 2M", "--size: 2M is not between 16 and 1M" },
        { "bench pub --size big", "--size: 'big' is not a size" },
        { "bench pub --for long", "--for: 'long': not a length of time" },
        { "bench pub --for 0", "--for: '0' is no time at all" },
        { "bench pub --rate 0", "--rate: 0 is not between 1 and" },
        { "bench pub --topics 0", "--topics: 0 is not between 1 and 100000" },
        { "bench pub --no-wait --json --wrong", "unrecognized option '--wrong'" },
        { "bench latency --topics 2 --seed tcp://127.0.0.1:1", "--topics: bench latency has one" },
        { "bench latency --for 1ms --rate 1 --seed tcp://127.0.0.1:1", "--for, --rate: not one fact" },
        { "bench pub --bind nonsense", "--bind: address 'nonsense'" },
    };
    EXPECT_REFUSED (mistakes);
}

/* --- Who works for others. */

static void options_of_workers_are_checked (void **state)
{
    (void) state;
    static const struct mistake mistakes[] = {
        { "work", "which group?" },
        { "work g", "--exec COMMAND: what is to be run for each fact?" },
        { "work g --exec true --effect twice", "--effect 'twice': write idempotent, once" },
        { "work g --exec true --lease long", "--lease: 'long': not a length of time" },
        { "work g --exec true --limit long", "--limit: 'long': not a length of time" },
        { "work g --exec true --delay long", "--delay: 'long': not a length of time" },
        { "work g --exec true --attempts 0", "--attempts: 0 is not between 1 and 1000000" },
        { "work g --exec true --in-hand 4097", "--in-hand: 4097 is not between 1 and 4096" },
        { "work g --exec true --count 0", "--count: 0 is not between 1 and" },
        { "work g --exec true --hand-out-skipped", "--hand-out-skipped goes with --change-topics" },
        { "work g --exec true --effect once --check false --from-now --attempts 3 --in-hand 2 --change-topics --hand-out-skipped --journal 1 a..b", "pattern" },
        { "respond", "which requests?" },
        { "respond a", "--exec COMMAND: what answers?" },
        { "respond a --exec true --limit long", "--limit: 'long': not a length of time" },
        { "respond a --exec true --count 0", "--count: 0 is not between 1 and" },
        { "respond a..b --exec true --topic t -t T --content-type c --group g --expired-too", "pattern" },
        { "request", "usage: factmesh request TOPIC [TEXT]" },
        { "request a b c", "usage: factmesh request TOPIC [TEXT]" },
        { "request a --count 0", "--count: 0 is not between 1 and" },
        { "request a --wait long", "--wait: 'long': not a length of time" },
        { "request a --all --responses r -k k -t T --json --raw", "exclude each other" },
        { "request a --format %q", "no directive '%q'" },
        { "group", "what? write ls, show, parked" },
        { "group lst", "'lst': write ls, show, parked" },
        { "group show", "usage: factmesh group show GROUP" },
        { "group ls g", "usage: factmesh group ls" },
        { "group drop g", "usage: factmesh group drop GROUP OFFSET…" },
        { "group seek g", "usage: factmesh group seek GROUP WHERE" },
        { "group seek g nowhere", "seek: 'nowhere': write start, end, @TIME or offset:N" },
        { "group seek g @noon", "seek: '@noon': not a time" },
        { "group seek g latest", "seek: 'latest': write start, end, @TIME or offset:N" },
        { "group seek g cursor:c", "seek: 'cursor:c': write start, end, @TIME or offset:N" },
        { "group seek -- g -5", "seek: '-5': write start, end, @TIME or offset:N" },
        { "group drop g 1 first", "OFFSET: 'first' is not a number" },
        { "group replay g 0", "OFFSET: 0 is not between 1 and" },
        { "group show g --again", "--again goes with seek" },
        { "group show --json --journal 1 --wrong", "unrecognized option '--wrong'" },
        { "cursor", "what? write ls, show, seek or rm" },
        { "cursor lst", "'lst': write ls, show, seek or rm" },
        { "cursor show", "usage: factmesh cursor show NAME" },
        { "cursor ls c", "usage: factmesh cursor ls" },
        { "cursor seek c", "usage: factmesh cursor seek NAME WHERE" },
        { "cursor seek -5", "usage: factmesh cursor seek NAME WHERE" },
        { "cursor seek c nowhere", "seek: 'nowhere': write start, end, -100, @TIME or offset:N" },
        { "cursor seek c latest", "seek: 'latest': write start, end, -100, @TIME or offset:N" },
        { "cursor seek c cursor:d", "seek: 'cursor:d': write start, end, -100, @TIME or offset:N" },
        { "cursor seek c -0", "seek: '-0': write -100 for the last 100 facts" },
        { "cursor seek '' start", "a cursor's name has 1 to 127 bytes" },
        { "cursor rm", "usage: factmesh cursor rm NAME…" },
        { "cursor ls --next 3", "--next is for factmesh cursor show" },
        { "cursor show c --skip 3", "--skip, --past and --force are for factmesh cursor seek" },
        { "cursor show c --force", "--skip, --past and --force are for factmesh cursor seek" },
        { "cursor seek c start --skip 3", "--skip N, or --past STREAM:SEQ, without a WHERE" },
        { "cursor seek c --skip 1 --past 00000000000000000000000000000001:1", "--skip or --past: one of them" },
        { "cursor seek c --past 17", "--past: '17' is no STREAM:SEQ" },
        { "cursor seek c --skip 0", "--skip: 0 is not between 1 and" },
        { "cursor show c --next many", "--next: 'many' is not a number" },
        { "cursor ls --json --journal 1 --wrong", "unrecognized option '--wrong'" },
        { "blob", "what? write put, get, ls or stat" },
        { "blob lst", "'lst': write put, get, ls or stat" },
        { "blob ls more", "usage: factmesh blob ls" },
        { "blob get", "usage: factmesh blob get DIGEST" },
        { "blob stat a b", "usage: factmesh blob stat DIGEST" },
        { "blob get 17", "'17': a blob's name is the 64 hex digits" },
        { "blob stat 17", "'17': a blob's name is the 64 hex digits" },
        { "blob get --range 9-3 17", "--range: '9-3'; write 0-99" },
        { "blob get --range -3 17", "--range: '-3'; write 0-99" },
        { "blob get --range 3--5 17", "--range: '3--5'; write 0-99" },
        { "blob put --range 3- 17", "--output and --range go with get" },
        { "blob stat --output f 17", "--output and --range go with get" },
        { "blob get --type t 17", "--type and --lease go with put" },
        { "blob ls --lease 1h", "--type and --lease go with put" },
        { "blob put --lease 0", "--lease: '0' is not a length of time" },
        { "blob put --lease long", "--lease: 'long' is not a length of time" },
        { "blob ls --json --journal 1 --wrong", "unrecognized option '--wrong'" },
    };
    EXPECT_REFUSED (mistakes);
}

/* --- Too much of something. */

static char *of_length (size_t len)
{
    char *text = malloc (len + 1);
    assert_non_null (text);
    memset (text, 'x', len);
    text[len] = 0;
    return text;
}

static void what_is_too_long_is_refused (void **state)
{
    (void) state;
    static const struct {
        const char *args[4], *option;   /* the value stands behind */
        size_t len;
        const char *words;
    } cases[] = {
        { { "pub", "a" }, "--key", 4097, "--key: more than 4096 bytes" },
        { { "pub", "a" }, "--fact-identity", 256, "--fact-identity: more than 255 bytes" },
        { { "pub", "a" }, "--type", 256, "--type, --content-type and --correlation: at most 255 bytes" },
        { { "pub", "a" }, "--content-type", 256, "--type, --content-type and --correlation: at most 255 bytes" },
        { { "pub", "a" }, "--correlation", 256, "--type, --content-type and --correlation: at most 255 bytes" },
        { { "pub" }, NULL, 246, "topic" },
        { { "sub" }, NULL, 246, "pattern" },
        { { "sub" }, "--cursor", 128, "--cursor: a name has 1 to 127 bytes" },
        { { "nodes", "--seed", "tcp://127.0.0.1:1" }, "--mesh", 65, "mesh" },
        { { "bench", "pub", "--seed", "tcp://127.0.0.1:1" }, "--topic", 244, "--topic: at most 245 bytes, with the number" },
        { { "bench", "latency", "--seed", "tcp://127.0.0.1:1" }, "--topic", 236, "--topic: at most 245 bytes, with what is added" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *args[8] = { NULL };
        char *const text = of_length (cases[i].len);
        size_t count = 0;
        struct run r;
        for (; count < 4 && cases[i].args[count]; count++)
            args[count] = cases[i].args[count];
        if (cases[i].option)
            args[count++] = cases[i].option;
        args[count] = text;
        run_args (args, NULL, &r);
        expect_refused (cases[i].words, &r, cases[i].words);
        free (text);
    }
}

/* `args`, then `count` times `word`. */
static void run_with_many (const char *const *args, const char *word, size_t count, struct run *ret_run)
{
    const char *words[RUN_WORDS_MAX + 1];
    size_t n = 0;
    for (; args[n]; n++)
        words[n] = args[n];
    while (count--)
        words[n++] = word;
    words[n] = NULL;
    run_args (words, NULL, ret_run);
}

static void what_is_too_many_is_refused (void **state)
{
    (void) state;
    struct run r;
    run_with_many ((const char *const[]) { "sub", NULL }, "a", 65, &r);
    expect_refused ("patterns", &r, "more than 64 patterns");
    run_with_many ((const char *const[]) { "pub", "a", NULL }, "-Hx=y", 65, &r);
    expect_refused ("headers", &r, "--header: more than 64 of them");
    run_with_many ((const char *const[]) { "pub", "a", NULL }, "-fx", 1025, &r);
    expect_refused ("files", &r, "more than 1024 files");
    char *const header = of_length (20000);
    header[1] = '=';
    run_args ((const char *const[]) { "pub", "a", "--header", header, NULL }, NULL, &r);
    expect_refused ("header", &r, "--header: header 'x': no room for it");
    free (header);
    char format[2 * 257 + 1];
    for (size_t i = 0; i < sizeof format - 1; i += 2)
        memcpy (format + i, "%p", 2);
    format[sizeof format - 1] = 0;
    run_args ((const char *const[]) { "sub", "--format", format, NULL }, NULL, &r);
    expect_refused ("directives", &r, "--format: more than 256 directives");
    char *const seeds = of_length (4090);
    memcpy (seeds, "ipc://", 6);
    run_args ((const char *const[]) { "bench", "latency", "--seed", seeds, NULL }, NULL, &r);
    expect_refused ("seeds", &r, "--seed: ");
    free (seeds);
}

static void a_pattern_that_only_looks_like_one_is_told (void **state)
{
    (void) state;
    struct run r;
    /* What follows is wrong, so that nothing is opened. */
    run_line ("sub some* a.>b a.*.b > a..b", &r);
    assert_int_equal (r.status, CLI_USAGE);
    assert_non_null (strstr (r.err, "factmesh sub: note: pattern 'some*' matches this literal text"));
    assert_non_null (strstr (r.err, "factmesh sub: note: pattern 'a.>b' matches this literal text"));
    assert_null (strstr (r.err, "'a.*.b'"));
    assert_null (strstr (r.err, "'>'"));
    run_line ("sub -q some* a..b", &r);
    assert_null (strstr (r.err, "some*"));
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (every_command_tells_its_options),
        cmocka_unit_test (the_command_without_one_says_what_there_is),
        cmocka_unit_test (help_that_cannot_be_written_is_an_error),
        cmocka_unit_test (standard_descriptors_are_there),
        cmocka_unit_test (common_options_are_checked),
        cmocka_unit_test (options_of_readers_are_checked),
        cmocka_unit_test (options_of_directories_are_checked),
        cmocka_unit_test (options_of_pub_are_checked),
        cmocka_unit_test (options_of_bench_are_checked),
        cmocka_unit_test (options_of_workers_are_checked),
        cmocka_unit_test (what_is_too_long_is_refused),
        cmocka_unit_test (what_is_too_many_is_refused),
        cmocka_unit_test (a_pattern_that_only_looks_like_one_is_told),
    };
    return cmocka_run_group_tests (tests, set_up, NULL);
}
