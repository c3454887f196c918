# http_server, by curl, wrk, h2load and ab: HTTP/1.1 and HTTP/2, and clients that are slow or die.
# shellcheck shell=bash
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
wants curl wrk h2load ab

serve() {
    start http_server --addr 127.0.0.1:0 --root "$SCRATCH/site" "$@"
}

get() {
    within 60 curl --silent --show-error --fail-with-body "$@"
}

# ---- what it answers ---------------------------------------------------------------------------------

both_versions_are_spoken() {
    local version
    serve
    for version in "--http1.1 1.1" "--http2-prior-knowledge 2"; do
        # shellcheck disable=SC2086 # an option and a number
        set -- $version
        expect "HTTP/$2" "Hello, world!|200 $2" "$(get "$1" -w '|%{http_code} %{http_version}' "http://$ADDRESS/" | tr -d '\n')"
        expect "HTTP/$2, what is not there" 404 "$(within 10 curl -s "$1" -o /dev/null -w '%{http_code}' "http://$ADDRESS/none")"
        expect "HTTP/$2, a way out" 404 "$(within 10 curl -s "$1" --path-as-is -o /dev/null -w '%{http_code}' "http://$ADDRESS/../secret")"
        expect "HTTP/$2, a HEAD" 200 "$(get "$1" --head -o /dev/null -w '%{http_code}' "http://$ADDRESS/")"
    done
    stop
}

# bodies_are_exact FILE
bodies_are_exact() {
    local version
    serve
    for version in --http1.1 --http2-prior-knowledge; do
        get "$version" "http://$ADDRESS/$1" | cmp - "$SCRATCH/site/$1" || fail "$version: $1 is another file when it comes"
        get "$version" --data-binary "@$SCRATCH/site/$1" -H 'Expect:' "http://$ADDRESS/echo" | cmp - "$SCRATCH/site/$1" ||
            fail "$version: $1 is another file when it comes back"
        get "$version" -T - "http://$ADDRESS/echo" <"$SCRATCH/site/$1" | cmp - "$SCRATCH/site/$1" ||
            fail "$version: $1 is another file when it comes back, sent in chunks"
    done
    at_most "KiB that it has grown to" 65536 "$(resident_kb)"
    stop
}

# ---- loads -------------------------------------------------------------------------------------------

no_request_fails() {
    local said
    serve
    said=$(within 60 wrk -t 1 -c 64 -d 1s "http://$ADDRESS/")
    ! grep -E 'Socket errors|Non-2xx' <<<"$said" || fail "wrk: a request failed"
    grep -q ' requests in ' <<<"$said" || fail "wrk measured nothing: $said"
    said=$(within 60 h2load --no-tls-proto=h2c -n 20000 -c 16 -m 10 "http://$ADDRESS/")
    expect "h2load" "requests: 20000 total, 20000 started, 20000 done, 20000 succeeded, 0 failed, 0 errored, 0 timeout" \
        "$(grep '^requests:' <<<"$said")"
    said=$(within 60 h2load --h1 -n 10000 -c 16 "http://$ADDRESS/large")
    expect "h2load --h1" 0 "$(sed -nE 's/^requests:.* ([0-9]+) failed.*/\1/p' <<<"$said")"
    said=$(within 60 ab -q -k -n 10000 -c 50 "http://$ADDRESS/" 2>&1)
    expect "ab -k" "10000 0" "$(awk '/^Complete requests:/ { done = $3 } /^Failed requests:/ { failed = $3 } END { print done, failed }' <<<"$said")"
    ! grep 'Non-2xx' <<<"$said" || fail "ab -k: a request failed"
    expect "ab without keep-alive" 0 "$(within 60 ab -q -n 2000 -c 50 "http://$ADDRESS/" 2>&1 | awk '/^Failed requests:/ { print $3 }')"
    stop
}

# ---- clients that misbehave --------------------------------------------------------------------------

# opens TEXT: a connection that has sent so much; CLIENT is its descriptor.
opens() {
    exec {CLIENT}<>"/dev/tcp/127.0.0.1/$PORT"
    printf '%b' "$1" >&"$CLIENT"
}

# 600 that go without a word, in the middle of a head, of a body, or before their answer; and uploads and downloads of 100 MB that are killed.
die() {
    local number clients=() parts=('' 'GET / HT' 'POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\nabc'
        'GET / HTTP/1.1\r\nhost: a\r\n\r\n' 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0' 'GET /huge HTTP/1.1\r\nhost: a\r\n\r\n')
    for ((number = 0; number < 600; number++)); do
        opens "${parts[number % ${#parts[@]}]}"
        exec {CLIENT}>&-
    done
    for number in --http1.1 --http2-prior-knowledge --http1.1 --http2-prior-knowledge; do
        beside curl -s "$number" -T "$SCRATCH/site/huge" --limit-rate 5M -o /dev/null "http://$ADDRESS/echo"
        clients+=("$BESIDE")
        beside curl -s "$number" --limit-rate 5M -o /dev/null "http://$ADDRESS/huge"
        clients+=("$BESIDE")
    done
    until_so "the server serves all eight" has_at_least $((BEFORE + 8))
    for number in "${clients[@]}"; do
        killed "$number"
    done
}

the_dead_leave_nothing() {
    serve
    get "http://$ADDRESS/large" >/dev/null
    nothing_is_left_of_who_dies 2048 die it_greets
    stop
}

it_greets() {
    expect "its greeting" "Hello, world!" "$(get "http://$ADDRESS/")"
}

# Slow-loris: 300 clients send a head byte by byte, and never its end. They get their time and no more, and the others do not wait for them.
who_is_slow_slows_down_nobody() {
    local number client clients=() said
    serve --header-timeout 2
    get "http://$ADDRESS/" >/dev/null
    BEFORE=$(descriptors)
    for ((number = 0; number < 300; number++)); do
        opens 'GET / HTTP/1.1\r\nhost: a\r\nx: '
        clients+=("$CLIENT")
    done
    said=$(within 60 ab -q -k -n 5000 -c 20 "http://$ADDRESS/" 2>&1)
    expect "ab -k beside them" 0 "$(awk '/^Failed requests:/ { print $3 }' <<<"$said")"
    for client in "${clients[@]}"; do
        printf a >&"$client" || true
    done 2>/dev/null
    # Nobody closes but the server.
    comes_back_to "$BEFORE"
    for client in "${clients[@]}"; do
        ! read -r -t 1 -u "$client" REPLY || [[ $REPLY == "HTTP/1.1 408"* ]] || fail "who never asked is answered: $REPLY"
        exec {client}>&-
    done
    stop
}

mkdir "$SCRATCH/site"
head -c 100000000 /dev/urandom >"$SCRATCH/site/huge"
head -c 100000 /dev/urandom >"$SCRATCH/site/large"
echo secret >"$SCRATCH/secret"

each_way both_versions_are_spoken
proved "curl: HTTP/1.1, and HTTP/2 with prior knowledge, on one port"
each_way bodies_are_exact large
bodies_are_exact huge
proved "curl: 100 MB down, up and back, with a length and in chunks, in both versions: to the byte"
each_way no_request_fails
proved "wrk, h2load, h2load --h1, ab -k and ab: no request failed"
each_way the_dead_leave_nothing
proved "1,800 clients that go early and 24 curls killed at 100 MB: no descriptor and no memory is lost"
each_way who_is_slow_slows_down_nobody
proved "slow-loris: 300 heads without an end hold nobody up, and are hung up on when their time is over"
