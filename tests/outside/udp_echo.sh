# udp_echo, by socat and by the shell's own sockets.
# shellcheck shell=bash
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
wants socat

# echoes BYTES: sends datagrams of so many bytes, and an empty one at the end, whose echo is the end of what comes back.
echoes() {
    within 30 socat -b "$1" -t 30 - "UDP:$ADDRESS,shut-null,null-eof"
}

# echo_of BYTES COUNT: so many bytes of `large` come back as they went, in datagrams of at most so many.
echo_of() {
    head -c "$2" "$SCRATCH/large" | echoes "$1" | cmp - <(head -c "$2" "$SCRATCH/large") ||
        fail "what comes back of $2 bytes in datagrams of $1 is not what went"
}

it_is_exact() {
    local loopback
    for loopback in 127.0.0.1:0 '[::1]:0'; do
        start udp_echo --addr "$loopback"
        echo_of 65507 65507 # the longest that there is
        echo_of 60000 100000
        echo_of 1000 50000
        echo_of 1 20
        expect "what comes back of nothing" "" "$(echoes 100 </dev/null)"
        stop
    done
}

# Forty at once, each with a few words, one datagram each: every client hears its own, whole, and in order.
everybody_hears_his_own() {
    local client clients=() number word
    start udp_echo --addr 127.0.0.1:0
    for ((number = 0; number < 40; number++)); do
        exec {client}<>"/dev/udp/127.0.0.1/$PORT"
        clients+=("$client")
        for word in "I am $number" "" "that is all of $number"; do
            echo "$word" >&"$client"
        done
    done
    for ((number = 0; number < 40; number++)); do
        client=${clients[number]}
        for word in "I am $number" "" "that is all of $number"; do
            # One read is one datagram.
            expect "the echo" "$word" "$(within "$SOON" dd bs=100 count=1 status=none <&"$client")"
        done
        exec {client}>&-
    done
    stop
}

# Who is gone before the echo comes costs nobody anything.
die() {
    local client number
    for ((number = 0; number < 500; number++)); do
        exec {client}<>"/dev/udp/127.0.0.1/$PORT"
        echo "I am gone" >&"$client"
        exec {client}>&-
    done
}

it_goes_on() {
    expect "an echo" hello "$(echo hello | echoes 100)"
}

the_dead_leave_nothing() {
    start udp_echo --addr 127.0.0.1:0
    it_goes_on
    nothing_is_left_of_who_dies 256 die it_goes_on
    stop
}

head -c 100000 /dev/urandom >"$SCRATCH/large"

each_way it_is_exact
proved "socat: datagrams from none to 65,507 bytes come back to the byte, by IPv4 and by IPv6"
each_way everybody_hears_his_own
proved "40 clients at once hear their own, one datagram for each that they sent, in order"
each_way the_dead_leave_nothing
proved "1,500 clients that are gone before their echo: no descriptor and no memory is lost"
