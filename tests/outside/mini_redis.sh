# mini_redis, by Redis's own programs: what it answers beside the real server, and that it stands what clients do to it.
# shellcheck shell=bash
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
wants redis-cli redis-benchmark redis-server

cli() {
    within 30 redis-cli -h 127.0.0.1 -p "$PORT" "$@"
}

benchmark() {
    within 60 redis-benchmark -h 127.0.0.1 -p "$PORT" -q "$@" >"$SCRATCH/benchmark" 2>&1 ||
        fail "redis-benchmark $*: $(tail -n 3 "$SCRATCH/benchmark")"
    ! grep -i error "$SCRATCH/benchmark" || fail "redis-benchmark $* complains"
}

# ---- what it answers ---------------------------------------------------------------------------------

# The real server, as the measure. Its socket stands in the scratch folder, so that no port is guessed.
real_server() {
    REAL=$SCRATCH/redis.sock
    beside redis-server --port 0 --unixsocket "$REAL" --save "" --appendonly no >"$SCRATCH/redis.log"
    until_so "redis-server answers" real PING >/dev/null 2>&1
}

real() {
    within 30 redis-cli -s "$REAL" "$@"
}

# All commands in all their forms, wrong ones among them, and random ones of few keys. Times to live have four digits, and nothing else has.
commands() {
    cat <<'TEXT'
PING
PING hello
PING a b
ECHO "two words"
ECHO
SET
SET key
SET key value EX
SET key value EX 0
SET key value EX -1
SET key value EX ten
SET key value EX 9223372036854775807
SET key value PX 0
SET key value NEVER
SET key value EX 5000 PX 5000
SET key value EX 5000
TTL key
set key value px 5000000
ttl key
SET key value
TTL key
TTL nothing
EXPIRE key
EXPIRE key soon
EXPIRE key 5000
EXPIRE nothing 5000
EXPIRE key 9223372036854775807
TTL key
EXPIRE key -1
GET key
GET
GET a b
DEL
DEL key nothing
MGET
INCR
INCR word extra
SET word abc
INCR word
SET most 9223372036854775807
INCR most
SET spaced " 1"
INCR spaced
SET zeros 007
INCR zeros
SET plus +1
INCR plus
SET minus -1
INCR minus
INCR minus
SET empty ""
GET empty
INCR empty
SET "" nameless
GET ""
SET "\x00\xff\r\n" "\r\n\x00\xfe"
GET "\x00\xff\r\n"
DEL "\x00\xff\r\n" nothing ""
MGET word empty nothing word
nonsense
NONSENSE one two three
QUITE
CONFIG GET save
CONFIG GET nothing
TEXT
    awk -v seed="$1" 'BEGIN {
        srand(seed)
        for (i = 0; i < 1500; i++) {
            key = "k" int(rand() * 12); other = "k" int(rand() * 12)
            kind = int(rand() * 10)
            if (kind == 0) print "SET", key, int(rand() * 50)
            if (kind == 1) print "SET", key, "w" int(rand() * 50), "EX", 2000 + int(rand() * 7000)
            if (kind == 2) print "SET", key, int(rand() * 50), "PX", 1000 * (2000 + int(rand() * 7000))
            if (kind == 3) print "GET", key
            if (kind == 4) print "INCR", key
            if (kind == 5) print "MGET", key, other, key
            if (kind == 6) print "DEL", key, other
            if (kind == 7) print "EXPIRE", key, 2000 + int(rand() * 7000)
            if (kind == 8) print "TTL", key
            if (kind == 9) print "ECHO", int(rand() * 50)
        }
    }'
}

# Two servers are not asked in the same second.
without_times() {
    sed -E 's/^[0-9]{4}$/a time to live/'
}

answers_as_the_real_one() {
    start mini_redis
    real FLUSHALL >/dev/null
    real <"$SCRATCH/commands" | without_times >"$SCRATCH/wanted"
    cli <"$SCRATCH/commands" | without_times >"$SCRATCH/got"
    diff "$SCRATCH/wanted" "$SCRATCH/got" >"$SCRATCH/differences" ||
        fail "with PROACTOR_TEST_SEED=$SEED it answers (>) what redis-server does not (<): $(head -n 20 "$SCRATCH/differences")"
    stop
}

values_go_when_their_time_is_over() {
    start mini_redis
    local began=${EPOCHREALTIME/[.,]/} after name
    expect "SET with PX" OK "$(cli SET px x PX 500)"
    expect "SET with EX" OK "$(cli SET ex x EX 1)"
    cli SET expire x >/dev/null
    expect "EXPIRE" 1 "$(cli EXPIRE expire 1)"
    cli SET kept x PX 100 >/dev/null
    cli SET kept y >/dev/null
    for name in px:500000 ex:1000000 expire:1000000; do
        until_so "the value with ${name%:*} is gone" gone "${name%:*}"
        after=$((${EPOCHREALTIME/[.,]/} - began))
        ((after >= ${name#*:})) || fail "the value with ${name%:*} was gone after $after us"
    done
    expect "what was set anew" y "$(cli GET kept)"
    expect "the times to live of what stays and of what is gone" "-1 -2" "$(cli TTL kept) $(cli TTL ex)"
    stop
}

gone() {
    [[ -z $(cli GET "$1") ]]
}

large_values_are_exact() {
    start mini_redis
    local bytes
    for bytes in "$@"; do
        head -c "$bytes" "$SCRATCH/random" >"$SCRATCH/value"
        expect "SET of $bytes bytes" OK "$(cli -x SET large <"$SCRATCH/value")"
        echo >>"$SCRATCH/value" # redis-cli ends what it prints with a line's end
        cli --raw GET large | cmp - "$SCRATCH/value" || fail "GET of $bytes bytes gives others"
    done
    stop
}

too_large_a_value_is_refused() {
    start mini_redis
    cli -x SET large <"$SCRATCH/random" >"$SCRATCH/refused" 2>&1 || true
    grep -qi 'invalid bulk length\|reset by peer\|closed\|broken pipe' "$SCRATCH/refused" ||
        fail "a value that is too large: $(head -c 200 "$SCRATCH/refused")"
    expect "and it goes on" PONG "$(cli PING)"
    stop
}

# ---- many at once ------------------------------------------------------------------------------------

pipelines_are_whole() {
    start mini_redis
    local said
    said=$(cli --pipe <"$SCRATCH/pipe" | tail -n 1)
    expect "redis-cli --pipe" "errors: 0, replies: 200000" "$said"
    expect "a key of the middle" value-100000 "$(cli GET key-100000)"
    benchmark -c 50 -P 1 -n 10000 -t ping,set,get,incr
    benchmark -c 50 -P 16 -n 50000 -t ping,set,get,incr
    expect "what the increments of two runs count" 60000 "$(cli GET counter:__rand_int__)"
    benchmark -c 50 -P 16 -n 20000 -r 1000 MGET key:__rand_int__ key:__rand_int__ nothing
    benchmark -c 50 -P 16 -n 20000 -r 1000 SET key:__rand_int__ value PX 20
    benchmark -c 20 -n 1000 -d 100000 -t set,get
    stop
}

thousands_are_served() {
    start mini_redis
    local before
    cli SET warm up >/dev/null
    before=$(descriptors)
    benchmark -c "$1" -n 20000 -t incr
    expect "what $1 clients count" 20000 "$(cli GET counter:__rand_int__)"
    benchmark -c 50 -k 0 -n 2000 -t incr
    expect "and a client for each command" 22000 "$(cli GET counter:__rand_int__)"
    comes_back_to "$before"
    stop
}

# ---- clients that misbehave --------------------------------------------------------------------------

# opens BYTES: a connection that has sent so much and no more; CLIENT is its descriptor.
opens() {
    exec {CLIENT}<>"/dev/tcp/127.0.0.1/$PORT"
    printf '%b' "$1" >&"$CLIENT"
}

# answers CLIENT: its next line, which is REPLY.
answers() {
    read -r -t "$SOON" -u "$1" REPLY || fail "a client waits in vain for its answer"
}

# 1,000 clients that go in the middle of a command, of a value, or with a reply unread, which resets the connection.
die() {
    local number parts=('*3\r\n$3\r\nSE' '*3\r\n$3\r\nSET\r\n$1\r\na\r\n$67108864\r\nabc' 'PING\r\nPING\r\n*2\r\n' '')
    for ((number = 0; number < 1000; number++)); do
        opens "${parts[number % 4]}"
        ((number % 4 != 2)) || answers "$CLIENT"
        exec {CLIENT}>&-
    done
}

# A whole load that is killed while its commands are under way.
dies_at_work() {
    beside redis-benchmark -h 127.0.0.1 -p "$PORT" -q -c 200 -P 16 -n 100000000 -d 1000 -t set >/dev/null 2>&1
    until_so "redis-benchmark has its connections" has_more_than 150
    killed "$BESIDE"
}

has_more_than() {
    (($(descriptors) > $1))
}

the_dead_leave_nothing() {
    start mini_redis
    it_answers
    nothing_is_left_of_who_dies 1024 die_both_ways it_answers
    stop
}

die_both_ways() {
    die
    dies_at_work
}

it_answers() {
    expect "what it answers" PONG "$(cli PING)"
}

# 300 clients that have sent half a command and wait, and one that sends without end and reads nothing, slow down nobody.
the_slow_do_not_slow_the_others() {
    start mini_redis
    local number before memory part client clients=()
    head -c 50000 /dev/zero | cli -x SET large >/dev/null
    before=$(descriptors)
    memory=$(resident_kb)
    for ((number = 0; number < 300; number++)); do
        opens '*2\r\n$4\r\nECHO\r\n$4\r\nsl'
        clients+=("$CLIENT")
    done
    beside yes 'GET large' >"/dev/tcp/127.0.0.1/$PORT" 2>/dev/null
    benchmark -c 50 -n 20000 -t set,get
    at_most "KiB that who does not read makes it hold" $((memory + 16384)) "$(resident_kb)"
    killed "$BESIDE"
    for part in 'ow' '\r\n'; do
        for client in "${clients[@]}"; do
            printf '%b' "$part" >&"$client"
        done
    done
    for client in "${clients[@]}"; do
        answers "$client"
        answers "$client"
        expect "a slow client's reply" $'slow\r' "$REPLY"
        exec {client}>&-
    done
    comes_back_to "$before"
    stop
}

SEED=${PROACTOR_TEST_SEED:-$RANDOM}
commands "$SEED" >"$SCRATCH/commands"
head -c 70000000 /dev/urandom >"$SCRATCH/random"
awk 'BEGIN { for (i = 0; i < 200000; i++) printf "SET key-%d value-%d\r\n", i, i }' >"$SCRATCH/pipe"

real_server
each_way answers_as_the_real_one
proved "redis-cli: $(wc -l <"$SCRATCH/commands") commands, wrong ones too, are answered as redis-server answers them"
each_way values_go_when_their_time_is_over
proved "redis-cli: EX, PX and EXPIRE take a value away, and not before"
each_way large_values_are_exact 1 16384 65537 8388608
large_values_are_exact 67108864
each_way too_large_a_value_is_refused
proved "redis-cli: values of 1 byte to 64 MiB come back to the byte; a larger one is refused"
each_way pipelines_are_whole
proved "redis-cli --pipe, redis-benchmark -P 1 and -P 16: no error, and no increment lost or counted twice"
each_way thousands_are_served 1500
thousands_are_served 5000
proved "redis-benchmark: 5,000 clients at once, and 2,000 one after the other"
each_way the_dead_leave_nothing
proved "3,600 clients that die, most in the middle of a command: no descriptor and no memory is lost"
each_way the_slow_do_not_slow_the_others
proved "300 clients stop in the middle of a command, one never reads: the others are served, and so are they"
