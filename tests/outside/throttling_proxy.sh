# throttling_proxy, between two socats: each side may end first, and the other goes on.
# shellcheck shell=bash
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
wants socat sha256sum

UNLIMITED=1000000000000
# How long socat waits for the one direction when the other has ended, and how long any of it may take: seconds.
PATIENCE=30

# proxy_to SOCAT-ADDRESS RATE: a target behind the proxy that does that with each connection.
proxy_to() {
    local log=$SCRATCH/target.$((++STARTS))
    beside socat -d -d -t "$PATIENCE" TCP-LISTEN:0,bind=127.0.0.1,fork "$1" 2>"$log"
    TARGET=$BESIDE
    until_so "the target listens" grep -q 'listening on .*:[0-9]' "$log"
    start throttling_proxy 0 "127.0.0.1:$(sed -n 's/.*listening on .*://p' "$log" | head -n 1)" --rate "$2"
}

end_proxy() {
    killed "$TARGET"
    stop
}

# client SOCAT-ADDRESS: joins it with a connection to the proxy.
client() {
    within "$PATIENCE" socat -t "$PATIENCE" "$1" "TCP:$ADDRESS"
}

# The client says all it has to say, and ends; the target answers what it can know only then.
the_client_ends_first() {
    local got
    proxy_to "EXEC:sha256sum" "$UNLIMITED"
    got=$(client - <"$SCRATCH/large")
    expect "the sum of what the target got" "$SUM  -" "$got"
    end_proxy
}

# The target ends first, and the client says all it has to say when it has seen that.
the_target_ends_first() {
    echo goodbye >"$SCRATCH/to-say"
    echo "cat >'$SCRATCH/heard'; cat '$SCRATCH/large'" >"$SCRATCH/at-client"
    proxy_to "OPEN:$SCRATCH/to-say,rdonly!!OPEN:$SCRATCH/got,wronly,creat,trunc" "$UNLIMITED"
    client "EXEC:sh $SCRATCH/at-client"
    expect "what the client heard before" goodbye "$(cat "$SCRATCH/heard")"
    until_so "the target got what was said after" cmp -s "$SCRATCH/got" "$SCRATCH/large"
    rm "$SCRATCH/heard" "$SCRATCH/got"
    end_proxy
}

# Both at once, and neither waits for the other.
both_directions_are_exact() {
    proxy_to "EXEC:cat" "$UNLIMITED"
    client - <"$SCRATCH/large" | cmp - "$SCRATCH/large" || fail "what comes back through the proxy is not what went"
    end_proxy
}

it_is_as_slow_as_it_is_told() {
    local began=${EPOCHREALTIME/[.,]/} took
    proxy_to "EXEC:cat" 400000
    head -c 200000 "$SCRATCH/large" | client - | cmp -n 200000 - "$SCRATCH/large" || fail "slowly, it is not the same"
    took=$((${EPOCHREALTIME/[.,]/} - began))
    ((took >= 400000)) || fail "200,000 bytes at 400,000 a second took $took us only"
    end_proxy
}

# Clients that die in the middle, by the hundred; and a target that does.
the_dead_leave_nothing() {
    local number
    proxy_to "EXEC:cat" 100000
    nothing_is_left_of_who_dies 512 twenty_die it_goes_on
    beside socat -u "OPEN:$SCRATCH/large" "TCP:$ADDRESS" 2>/dev/null
    until_so "the proxy serves one more" has_at_least $((BEFORE + 2))
    number=$(<"/proc/$TARGET/task/$TARGET/children") # the target's process for that connection
    killed "${number%% *}"
    comes_back_to "$BEFORE"
    end_proxy
}

twenty_die() {
    local number clients=()
    for ((number = 0; number < 20; number++)); do
        beside socat -u "OPEN:$SCRATCH/large" "TCP:$ADDRESS,linger=0" 2>/dev/null
        clients+=("$BESIDE")
    done
    until_so "the proxy serves all clients" has_at_least $((BEFORE + 40))
    for number in "${clients[@]}"; do
        killed "$number"
    done
}

it_goes_on() {
    expect "what comes back" hello "$(echo hello | client -)"
}

head -c 10000000 /dev/urandom >"$SCRATCH/large"
SUM=$(sha256sum <"$SCRATCH/large" | cut -d' ' -f1)

each_way the_client_ends_first
proved "socat: the client ends first, 10 MB on; the target's answer to that still comes"
each_way the_target_ends_first
proved "socat: the target ends first; 10 MB that the client says after that still come"
each_way both_directions_are_exact
proved "socat: 10 MB there and back at the same time, to the byte"
each_way it_is_as_slow_as_it_is_told
proved "socat: no faster than its rate"
each_way the_dead_leave_nothing
proved "60 socats that are killed in the middle, and a target: no descriptor and no memory is lost"
