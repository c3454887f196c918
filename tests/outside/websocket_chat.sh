# websocket_chat, by Chromium: pages that talk to each other; and by whoever asks for something and does not wait for the answer.
# shellcheck shell=bash
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
wants chromium curl

# ---- the browser -------------------------------------------------------------------------------------

# It is driven over the pipe of its DevTools: messages of JSON, each ended by a zero byte.
browser() {
    mkfifo "$SCRATCH/to-browser" "$SCRATCH/from-browser"
    exec 7<>"$SCRATCH/to-browser" 8<>"$SCRATCH/from-browser"
    beside chromium --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
        --disable-background-timer-throttling --disable-renderer-backgrounding \
        --user-data-dir="$SCRATCH/profile" --remote-debugging-pipe about:blank \
        3<&7 4>&8 7>&- 8>&- >"$SCRATCH/chromium.log" 2>&1
    ASKED=0
}

# ask METHOD PARAMETERS [PAGE]: ANSWER is what the browser answers.
ask() {
    local session=${3:+,\"sessionId\":\"$3\"} deadline=$((SECONDS + SOON))
    printf '{"id":%d,"method":"%s","params":%s%s}\0' $((++ASKED)) "$1" "$2" "$session" >&7
    while ((SECONDS < deadline)) && IFS= read -r -d '' -t "$SOON" -u 8 ANSWER; do
        [[ $ANSWER == "{\"id\":$ASKED,"* ]] || continue # an event
        [[ $ANSWER != *'"error":'* && $ANSWER != *'"exceptionDetails":'* ]] || fail "$1 $2: $ANSWER"
        return
    done
    fail "Chromium does not answer to $1 $2: $(tail -n 3 "$SCRATCH/chromium.log")"
}

# field NAME: a string of the answer.
field() {
    sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" <<<"$ANSWER"
}

# opens PAGE URL: a new page; the variable of that name has its session.
opens() {
    ask Target.createTarget '{"url":"about:blank"}'
    ask Target.attachToTarget "{\"targetId\":\"$(field targetId)\",\"flatten\":true}"
    printf -v "$1" '%s' "$(field sessionId)"
    ask Page.navigate "{\"url\":\"$2\"}" "${!1}"
}

# does PAGE SCRIPT: runs a script in the page, and waits for what it promises; ANSWER is what came of it.
does() {
    local script=${2//\\/\\\\}
    script=${script//\"/\\\"}
    ask Runtime.evaluate "{\"expression\":\"${script//$'\n'/ }\",\"awaitPromise\":true,\"returnByValue\":true}" "$1"
}

# shows PAGE CONDITION: waits until that is so in the page.
shows() {
    does "$1" "new Promise(done => {
        const look = () => document.readyState === 'complete' && ($2) ? done('') : setTimeout(look, 10);
        look();
    })"
}

# ---- the chat ----------------------------------------------------------------------------------------

enters() {
    opens "$1" "http://$ADDRESS/"
    shows "${!1}" "document.title === 'Chat'"
    does "${!1}" "document.getElementById('name').value = '$2'; document.getElementById('enter').requestSubmit()"
}

is_told() {
    shows "$1" "document.getElementById('state').textContent === '$2'"
}

# says PAGE WORDS, as a string of JavaScript.
says() {
    does "$1" "document.getElementById('text').value = $2; document.getElementById('say').requestSubmit()"
}

# reads PAGE LINE: it is the last that the page shows.
reads() {
    shows "$1" "document.getElementById('log').lastChild?.textContent === $2"
}

pages_talk_to_each_other() {
    start websocket_chat --pace-ms 0
    local anna bert carl odd="'<b>&amp; \\u{1f600} \\\\ ' + String.fromCharCode(34)"
    enters anna Anna
    is_told "$anna" "Here: Anna"
    enters bert Bert
    is_told "$bert" "Here: Anna, Bert"
    is_told "$anna" "Here: Anna, Bert"
    enters carl Anna
    is_told "$carl" "Not connected: this name is taken: choose another"

    says "$anna" "'Hello Bert'"
    reads "$bert" "'AnnaHello Bert'"
    reads "$anna" "'AnnaHello Bert'"
    says "$bert" "$odd"
    reads "$anna" "'Bert' + $odd"
    does "$anna" "document.querySelectorAll('#log li b').length.toString()"
    expect "the names in front of what Anna reads" 3 "$(field value)"

    local burst="for (let i = 0; i < 150; i++) {
        document.getElementById('text').value = i;
        document.getElementById('say').requestSubmit();
    }"
    does "$anna" "$burst"
    does "$bert" "$burst"
    local page heard=()
    for page in "$anna" "$bert"; do
        shows "$page" "[...document.querySelectorAll('#log li')].filter(line => /^(Anna|Bert)\\d+$/.test(line.textContent)).length === 300"
        does "$page" "[...document.querySelectorAll('#log li')].slice(-300).map(line => line.textContent).join(' ')"
        heard+=("$(field value)")
    done
    expect "what Bert heard, and in which order" "${heard[0]}" "${heard[1]}"
    expect "what Anna said" "$(seq -s ' ' 0 149)" "$(tr ' ' '\n' <<<"${heard[0]}" | sed -n 's/^Anna//p' | xargs)"

    ask Page.close "{}" "$bert"
    is_told "$anna" "Here: Anna"
    reads "$anna" "'Berthas left'"
    stop
    is_told "$anna" "Not connected: the chat ends"
    ask Page.close "{}" "$anna"
    ask Page.close "{}" "$carl"
}

# ---- those who do not wait ---------------------------------------------------------------------------

# 1,000 clients that go before, in the middle of, and right after their handshake, and with their name in the air.
die() {
    local number upgrade parts name='\x81\x82\0\0\0\0'
    upgrade='GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n'
    upgrade+='Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n'
    parts=('' 'GET /cha' "${upgrade%\\r\\n}" "$upgrade" "$upgrade$name" "${upgrade}${name}me" 'GET / HTTP/1.1\r\n\r\n')
    for ((number = 0; number < 1000; number++)); do
        exec 9<>"/dev/tcp/127.0.0.1/$PORT"
        printf '%b' "${parts[number % ${#parts[@]}]}" >&9
        exec 9>&-
        # At most fifty at once: what a peak takes stays with the allocator, and would hide what each one leaves.
        ((number % 50 < 49)) || comes_back_to "$BEFORE"
    done
}

the_page_is_whole() {
    within 10 curl --silent --fail "http://$ADDRESS/" | cmp - examples/websocket_chat/page.html ||
        fail "the page is not that of the sources"
}

the_dead_leave_nothing() {
    start websocket_chat --patience-ms 2000
    local number
    the_page_is_whole
    nothing_is_left_of_who_dies 1536 die the_page_is_whole
    # Those who neither go on nor go are hung up on.
    for ((number = 300; number < 500; number++)); do
        eval "exec $number<>/dev/tcp/127.0.0.1/$PORT"
        printf 'GET /chat HTTP/1.1\r\nX: ' >&"$number"
    done
    comes_back_to "$BEFORE"
    for ((number = 300; number < 500; number++)); do
        eval "exec $number>&-"
    done
    stop
}

each_way the_dead_leave_nothing
proved "3,000 clients that die in their handshake, and 200 that never end it: no descriptor and no memory is lost"
browser
each_way pages_talk_to_each_other
proved "Chromium: two pages talk to each other, in one order, and hear who comes, who goes and that the chat ends"
