# What the checks share. A check is a script here that sources this file, and that `run` starts; it ends at the first thing that is
# not as it should be, says what, and in which way the server was run.
#
#   source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
#   wants curl                                # the programs that it needs, which `run --programs` reads from this line
#   greets() {
#       start my_example --some option        # with --strategy and --threads; now SERVER, ADDRESS and PORT are set
#       expect "its greeting" hello "$(within 5 curl -s "http://$ADDRESS/")"
#       stop                                  # by SIGTERM; it must end with 0, and have nothing on stderr
#   }
#   each_way greets                           # once under each strategy, the pools with one thread and with two
#   proved "curl: it greets"
#
# Each command that could wait for ever is run by `within SECONDS`. What runs beside the check is started with `beside`, and ends
# with it.
# shellcheck shell=bash
set -euo pipefail

: "${EXAMPLES:?is the folder of the built examples: start the checks with tests/outside/run}"
: "${SCRATCH:?is a folder for what a check leaves: start the checks with tests/outside/run}"

CHECK=$(basename "$0" .sh)
# Single has one thread. Two are as many as a small machine has processors.
WAYS=("single 1" "leader-followers 1" "leader-followers 2" "work-stealing 1" "work-stealing 2")
STRATEGY=work-stealing THREADS=2
# How long anything may take that is a matter of a moment, in seconds: the machine may be busy.
SOON=20
STARTED=() LOGS=() STARTS=0
SINCE=$SECONDS

# wants PROGRAM...: what must be installed.
wants() {
    local program
    for program in "$@"; do
        command -v "$program" >/dev/null || fail "there is no $program: install it (.ci/run outside does)"
    done
}

# each_way FUNCTION [ARGUMENT]...: calls it once for each strategy and number of threads.
each_way() {
    local way
    for way in "${WAYS[@]}"; do
        read -r STRATEGY THREADS <<<"$way"
        "$@"
    done
}

# start EXAMPLE [ARGUMENT]...: starts it, and waits until it says where it listens: SERVER is its process, ADDRESS and PORT are that.
start() {
    local example=$1 said
    shift
    said=$SCRATCH/$CHECK.$example.$((++STARTS))
    [[ -x $EXAMPLES/$example ]] || fail "there is no $EXAMPLES/$example: build it, or leave --built away"
    "$EXAMPLES/$example" "$@" --strategy "$STRATEGY" --threads "$THREADS" >"$said.out" 2>"$said.err" &
    SERVER=$!
    STARTED+=("$SERVER")
    LOGS[SERVER]=$said
    until_so "$example says where it listens" listens "$said.out"
    ADDRESS=$(sed -n 's/^listening on //p' "$said.out")
    PORT=${ADDRESS##*:}
}

listens() {
    kill -0 "$SERVER" 2>/dev/null || fail "it ended at once: $(cat "${1%.out}.err")"
    grep -qs '^listening on .*:[0-9]' "$1"
}

# stop [SERVER]: asks it to end, which it must do soon, with 0, and without a word on stderr.
stop() {
    local server=${1:-$SERVER} status=0
    kill -TERM "$server" 2>/dev/null || fail "the server is gone before it was asked to end: $(errors "$server")"
    until_so "the server ends when asked to" ended "$server"
    wait "$server" || status=$?
    expect "the server's exit code" 0 "$status"
    expect "what the server says on stderr" "" "$(errors "$server")"
}

ended() {
    # A child that nobody waited for is there still, as a zombie.
    [[ ! -e /proc/$1/stat ]] || [[ $(cut -d' ' -f3 "/proc/$1/stat" 2>/dev/null) == [ZX] ]]
}

errors() {
    tail -n 5 "${LOGS[$1]}.err"
}

# beside COMMAND...: runs it beside the check; BESIDE is its process. It is killed at the end, if it is still there.
beside() {
    "$@" &
    BESIDE=$!
    STARTED+=("$BESIDE")
}

# killed PROCESS: dies now, without a chance to say goodbye.
killed() {
    kill -KILL "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

# within SECONDS COMMAND...: ends a command that takes longer, and the check with it.
within() {
    local seconds=$1 status=0
    shift
    timeout --kill-after=5 "$seconds" "$@" || status=$?
    [[ $status -ne 124 && $status -ne 137 ]] || fail "not finished after $seconds seconds: $*"
    return "$status"
}

# until_so WHAT COMMAND...: looks until the command succeeds.
until_so() {
    local what=$1 deadline=$((SECONDS + SOON))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || fail "waited $SOON seconds in vain until $what"
        sleep 0.02 # sleep: between two looks
    done
}

# expect WHAT WANTED GOT
expect() {
    [[ $3 == "$2" ]] || fail "$1: expected '${2:0:500}', got '${3:0:500}'"
}

# at_most WHAT MOST GOT
at_most() {
    (($3 <= $2)) || fail "$1: at most $2 expected, got $3"
}

# descriptors [SERVER]: how many it has open.
descriptors() {
    local open=("/proc/${1:-$SERVER}/fd"/*)
    echo "${#open[@]}"
}

# has_at_least COUNT: whether the server has so many descriptors open.
has_at_least() {
    (($(descriptors) >= $1))
}

# resident_kb [SERVER]: the memory that is its own. Memory that grows for each of many clients is a leak; what is grown once is not:
# look after a first round, and again after others.
resident_kb() {
    awk '/^RssAnon:/ { print $2 }' "/proc/${1:-$SERVER}/status"
}

# comes_back_to DESCRIPTORS [SERVER]: waits until it has no more open than that.
comes_back_to() {
    until_so "the server has $1 descriptors again" has_at_most "$1" "${2:-$SERVER}"
}

has_at_most() {
    (($(descriptors "$2") <= $1))
}

# nothing_is_left_of_who_dies KIB DIE SERVES: three rounds, each of the command DIE, by which clients die, and of SERVES, which fails
# unless the server goes on. Then all descriptors are back that were open before (BEFORE of them, which DIE may read), and
# the memory is at most KIB more than after the first round: what that grew stays with the allocator.
nothing_is_left_of_who_dies() {
    local most=$1 die=$2 serves=$3 memory round
    BEFORE=$(descriptors)
    for round in 0 1 2; do
        "$die"
        comes_back_to "$BEFORE"
        "$serves"
        ((round > 0)) || memory=$(resident_kb)
    done
    at_most "KiB after two more rounds of dead clients" $((memory + most)) "$(resident_kb)"
}

# proved TEXT: one line for what was looked at since the last.
proved() {
    printf '    %-12s %4d s  %s\n' "$CHECK" $((SECONDS - SINCE)) "$1"
    SINCE=$SECONDS
}

fail() {
    trap - ERR
    printf 'error: %s (%s, %s threads): %s\n' "$CHECK" "$STRATEGY" "$THREADS" "$1" >&2
    # In a subshell, too, whose end alone nobody might notice.
    [[ $BASHPID == "$$" ]] || kill -USR1 "$$"
    exit 1
}

leave() {
    local status=$? process
    for process in ${STARTED[@]+"${STARTED[@]}"}; do
        kill -KILL "$process" 2>/dev/null || true
    done
    exit "$status"
}
trap leave EXIT
# Who writes to one that is gone fails there, and is told of; bash would end without a word, and with 0.
trap '' PIPE
trap 'trap - ERR; exit 1' USR1 TERM
trap 'fail "line $LINENO of ${BASH_SOURCE[0]##*/} failed: $BASH_COMMAND"' ERR
set -E
