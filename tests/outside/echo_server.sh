# echo_server, by socat and by the shell's own sockets.
# shellcheck shell=bash
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
wants socat

echoes() {
    within 30 socat -t 30 - "TCP:$ADDRESS"
}

it_is_exact() {
    start echo_server --addr 127.0.0.1:0
    echoes <"$SCRATCH/large" | cmp - "$SCRATCH/large" || fail "what comes back is not what went"
    # A reader that takes its time: the server must wait for it.
    echoes <"$SCRATCH/large" | slowly | cmp - "$SCRATCH/large" || fail "what comes back slowly is not what went"
    stop
}

# Rests now and then, for longer than all buffers on the way last.
slowly() {
    local part
    for part in 1 2 3 4; do
        head -c 2500000
        sleep 0.1 # sleep: being slow
    done
}

# 500 go at once, before the server has looked at them, 500 with a word said, and 500 with an echo unread, which resets the connection.
die() {
    local number client word
    for ((number = 0; number < 1500; number++)); do
        exec {client}<>"/dev/tcp/127.0.0.1/$PORT"
        if ((number % 3 > 0)); then
            printf 'two words\n' >&"$client"
        fi
        if ((number % 3 > 1)); then
            read -r -t "$SOON" -d ' ' -u "$client" word || fail "a client waits in vain for its echo"
            expect "an echo" two "$word"
        fi
        exec {client}>&-
    done
}

# Sends without end, reads nothing, and is killed; each closes with a reset.
die_with_much_unread() {
    local number clients=()
    for ((number = 0; number < 40; number++)); do
        beside socat -u OPEN:/dev/zero "TCP:$ADDRESS,linger=0" 2>/dev/null
        clients+=("$BESIDE")
    done
    until_so "all of them are served" has_at_least $((BEFORE + 40))
    at_most "KiB that 40 who do not read make it hold" 4096 "$(resident_kb)"
    for number in "${clients[@]}"; do
        killed "$number"
    done
}

the_dead_leave_nothing() {
    start echo_server --addr 127.0.0.1:0
    it_echoes
    nothing_is_left_of_who_dies 256 die_both_ways it_echoes
    stop
}

die_both_ways() {
    die
    die_with_much_unread
}

it_echoes() {
    expect "an echo" hello "$(echo hello | echoes)"
}

# 900 connections that rest and 40 that never read; and the others are served all the same.
who_rests_slows_down_nobody() {
    local client clients=() number
    start echo_server --addr 127.0.0.1:0
    BEFORE=$(descriptors)
    for ((number = 0; number < 900; number++)); do
        exec {client}<>"/dev/tcp/127.0.0.1/$PORT"
        clients+=("$client")
    done
    until_so "all of them are served" has_at_least $((BEFORE + 900))
    die_with_much_unread
    echoes <"$SCRATCH/large" | cmp - "$SCRATCH/large" || fail "what comes back is not what went"
    for client in "${clients[@]}"; do
        echo "I am $client" >&"$client"
    done
    for client in "${clients[@]}"; do
        read -r -t "$SOON" -u "$client" REPLY || fail "who rested waits in vain for an echo"
        expect "the echo of who rested" "I am $client" "$REPLY"
        exec {client}>&-
    done
    comes_back_to "$BEFORE"
    stop
}

head -c 10000000 /dev/urandom >"$SCRATCH/large"

each_way it_is_exact
proved "socat: 10 MB come back to the byte, and again to one who reads slowly"
each_way the_dead_leave_nothing
proved "4,500 clients that go early and 120 socats killed with much unread: no descriptor and no memory is lost"
each_way who_rests_slows_down_nobody
proved "900 connections that rest are served when they speak"
