# axum_app, by curl: its routes, its state, and that what takes long holds nobody up.
# shellcheck shell=bash
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
wants curl

get() {
    within 30 curl --silent --show-error "$@"
}

status() {
    get -o /dev/null -w '%{http_code}' "$@"
}

its_routes_and_its_state() {
    local number
    start axum_app --addr 127.0.0.1:0
    for number in 1 2 3; do
        expect "a visitor" "Welcome, visitor $number!" "$(get "http://$ADDRESS/")"
    done
    expect "notes at first" "[]" "$(get "http://$ADDRESS/notes")"
    expect "a note" 201 "$(status --json '"buy milk"' "http://$ADDRESS/notes")"
    expect "a note by HTTP/2" 201 "$(status --http2-prior-knowledge --json '"äöü"' "http://$ADDRESS/notes")"
    expect "notes, the newest first" '["äöü","buy milk"]' "$(get "http://$ADDRESS/notes")"
    expect "a note that is none" 400 "$(status --json '"open' "http://$ADDRESS/notes")"
    expect "a note that is not said to be JSON" 415 "$(status -d '"x"' "http://$ADDRESS/notes")"
    expect "another method" 405 "$(status -X DELETE "http://$ADDRESS/notes")"
    expect "no route" 404 "$(status "http://$ADDRESS/none")"
    expect "primes" 78498 "$(get "http://$ADDRESS/primes/1000000")"
    expect "primes of what is no number" 400 "$(status "http://$ADDRESS/primes/many")"
    stop
}

what_takes_long_holds_nobody_up() {
    local number
    start axum_app --addr 127.0.0.1:0
    beside curl -s -o "$SCRATCH/primes" "http://$ADDRESS/primes/100000000"
    for ((number = 1; number <= 20; number++)); do
        expect "a visitor" "Welcome, visitor $number!" "$(get "http://$ADDRESS/")"
    done
    kill -0 "$BESIDE" 2>/dev/null || fail "the long count was over before the visitors were"
    wait "$BESIDE"
    expect "the long count" 5761455 "$(cat "$SCRATCH/primes")"
    stop
}

each_way its_routes_and_its_state
proved "curl: routes, state and refusals, over HTTP/1.1 and HTTP/2"
STRATEGY=single THREADS=1
what_takes_long_holds_nobody_up
proved "curl: while primes are counted, the one thread welcomes visitors"
