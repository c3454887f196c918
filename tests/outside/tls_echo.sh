# tls_echo, by openssl: bytes come back as they were sent, under every version of TLS that there is; and what becomes of handshakes
# that nobody ends.
# shellcheck shell=bash
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
wants openssl

CERTIFICATE=$SCRATCH/echo.pem

starts() {
    start tls_echo --certificate "$CERTIFICATE" "$@"
}

# client SECONDS [OPTION]...: takes nothing for granted, and nothing that it reads for a command.
client() {
    local seconds=$1
    shift
    within "$seconds" openssl s_client -connect "$ADDRESS" -verify_return_error -verify_quiet -quiet -nocommands "$@"
}

trusting() {
    client "$@" -CAfile "$CERTIFICATE"
}

# echoes TEXT [OPTION]...: the text comes back, and then the server's goodbye, on which openssl ends with 0.
echoes() {
    local text=$1 got
    shift
    rm -f "$SCRATCH/got"
    got=$({ echo "$text" && until_so "the echo of $text" has_bytes $((${#text} + 1)); } |
        trusting "$SOON" -no_ign_eof "$@" 2>"$SCRATCH/openssl" | tee "$SCRATCH/got") ||
        fail "openssl $*: $(tail -n 3 "$SCRATCH/openssl")"
    expect "the echo" "$text" "$got"
}

# has_bytes COUNT [FILE]
has_bytes() {
    local file=${2:-$SCRATCH/got}
    [[ -f $file ]] && (($(stat --format %s "$file") >= $1))
}

# ---- what is to work ---------------------------------------------------------------------------------

bytes_come_back() {
    starts
    echoes "by the best there is"
    echoes "TLS 1.3" -tls1_3
    echoes "TLS 1.2" -tls1_2
    expect "who answers without the certificate's trust" "" "$(client "$SOON" -no_ign_eof <<<hello 2>/dev/null || true)"
    rm -f "$SCRATCH/got"
    { cat "$SCRATCH/random" && until_so "all has come back" has_bytes "$BYTES"; } |
        trusting 60 -no_ign_eof 2>"$SCRATCH/openssl" >"$SCRATCH/got" ||
        fail "openssl: $(tail -n 3 "$SCRATCH/openssl")"
    cmp "$SCRATCH/random" "$SCRATCH/got" || fail "of $BYTES bytes others come back"
    stop
}

# Twenty at once, each with other bytes.
many_at_once() {
    starts
    local number clients=()
    for ((number = 0; number < 20; number++)); do
        { part "$number" && until_so "all has come back to client $number" has_bytes 300000 "$SCRATCH/got.$number"; } |
            trusting 60 -no_ign_eof >"$SCRATCH/got.$number" 2>/dev/null &
        clients+=($!)
    done
    for number in "${!clients[@]}"; do
        wait "${clients[number]}" || fail "client $number fails"
        part "$number" | cmp - "$SCRATCH/got.$number" || fail "other bytes come back to client $number"
    done
    rm "$SCRATCH"/got.*
    stop
}

part() {
    dd if="$SCRATCH/random" bs=1000 skip="$1" count=300 status=none
}

# ---- handshakes that nobody ends ---------------------------------------------------------------------

# What openssl says first, with its header, as it shows it itself: HELLO is bytes as printf writes them.
learn_hello() {
    local digits
    trusting "$SOON" -no_ign_eof -msg </dev/null >"$SCRATCH/hello" 2>&1
    digits=$(sed -n '/^<<</q; s/^    //p' "$SCRATCH/hello" | tr -d ' \n')
    [[ $digits =~ ^1603.{300,}$ ]] || fail "openssl does not show its first words: ${digits:0:100}"
    HELLO=$(sed 's/../\\x&/g' <<<"$digits")
}

# 1,000 that are aborted: before the first word, within it, and after it with the answer unread; or with words that are not TLS.
abort() {
    local number words=('' "${HELLO:0:4}" "${HELLO:0:20}" "${HELLO:0:400}" "$HELLO" 'GET / HTTP/1.1, which is no TLS')
    for ((number = 0; number < 1000; number++)); do
        exec 9<>"/dev/tcp/127.0.0.1/$PORT"
        printf '%b' "${words[number % ${#words[@]}]}" >&9
        exec 9>&-
        # At most fifty at once: what a peak takes stays with the allocator, and would hide what each one leaves.
        ((number % 50 < 49)) || comes_back_to "$BEFORE"
    done
}

it_echoes() {
    echoes "as before"
}

aborted_handshakes_leave_nothing() {
    starts --patience-ms 2000
    local number
    learn_hello
    nothing_is_left_of_who_dies 1536 abort it_echoes
    for ((number = 0; number < 20; number++)); do # by openssl, which finds that it cannot trust
        client "$SOON" </dev/null >/dev/null 2>&1 && fail "openssl trusts whom it does not know"
    done
    comes_back_to "$BEFORE"
    stop
}

# 200 that send half a word and stay: others are served meanwhile, and when their time is over they are hung up on.
idle_handshakes_end() {
    starts --patience-ms 2000
    local number before
    learn_hello
    before=$(descriptors)
    for ((number = 300; number < 500; number++)); do
        eval "exec $number<>/dev/tcp/127.0.0.1/$PORT"
        printf '%b' "${HELLO:0:400}" >&"$number"
    done
    echoes "while they wait"
    comes_back_to "$before"
    for ((number = 300; number < 500; number++)); do
        eval "exec $number>&-"
    done
    stop
}

BYTES=5000000
head -c "$BYTES" /dev/urandom >"$SCRATCH/random"

each_way bytes_come_back
proved "openssl s_client: TLS 1.3, TLS 1.2 and $BYTES random bytes, and the server's goodbye to a client's"
each_way many_at_once
proved "openssl s_client: twenty at once, each with its own bytes"
each_way aborted_handshakes_leave_nothing
proved "3,000 aborted handshakes: no descriptor and no memory is lost, and it goes on"
each_way idle_handshakes_end
proved "200 handshakes that nobody ends are ended by the server, and keep nobody from being served"
