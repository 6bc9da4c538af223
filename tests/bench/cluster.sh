# shellcheck shell=bash
# Clusters on this machine, for the rows that need one; sourced after lib.sh. A node is a directory of $nodes and has its name.
# Everything that is started ends with the row.

need iproute2 ip
need procps pkill
install_missing

nodes=$work/nodes
mkdir "$nodes"
declare -A daemon=()  # the process of each node that serves
declare -A address=() # where it listens
declare -A space=()   # the network namespace that a node lives in, if it has one of its own
others=()             # other processes that run: they end with the row, and so do their children
port=$((20000 + RANDOM % 10000))

tidy() {
    local name
    ((${#others[@]} == 0)) || pkill -9 -P "$(IFS=, && echo "${others[*]}")" || true
    kill -9 "${daemon[@]}" "${others[@]}" 2>/dev/null || true
    for name in "${space[@]}"; do ip netns del "$name" 2>/dev/null || true; done
    # Who was killed may still be writing.
    rm -rf "$work" 2>/dev/null || { sleep 1 && rm -rf "$work"; }
}
trap tidy EXIT
# A signal ends the row in order.
trap 'exit 130' INT
trap 'exit 143' TERM

# Makes $port one that is free.
new_port() { while port=$((port + 1)) && [[ -n $(ss -Htuln "sport = :$port") ]]; do :; done; }

# within NODE COMMAND…: where the node's network is.
within() {
    local inside=${space[$1]:-}
    shift
    ${inside:+ip netns exec "$inside"} "$@"
}

# background NODE COMMAND…: as within; it ends with the row. What it prints is in $work/NODE.log.
background() {
    local inside=${space[$1]:-} log=$work/$1.log
    shift
    (exec ${inside:+ip netns exec "$inside"} "$@") >>"$log" 2>&1 </dev/null &
    others+=($!)
    # Bash is not to announce its end.
    disown
}

# on NODE COMMAND…: a command of filesync, with its result as JSON.
on() {
    local name=$1
    shift
    within "$name" "$filesync" -C "$nodes/$name" --progress never --json "$@"
}

# start NODE [IP]: its daemon, always at the same address.
start() {
    if [[ -z ${address[$1]:-} ]]; then
        new_port
        address[$1]=${2:-127.0.0.1}:$port
    fi
    daemon[$1]=$(on "$1" serve --listen "${address[$1]}" --detach | json pid)
}

stop() {
    on "$1" stop >/dev/null
    unset "daemon[$1]"
}

# found NODE [IP]: makes a cluster of one of what lies in the node's directory.
found() {
    on "$1" init --name "$1" >/dev/null
    on "$1" commit -m bench >/dev/null
    start "$@"
    on "$1" sync >/dev/null
}

# join NODE MEMBER [ROLE]: clones what MEMBER has.
join() {
    mkdir "$nodes/$1"
    on "$2" invite --role "${3:-writer}" | json invite >"$work/invite"
    on "$1" clone - . --name "$1" <"$work/invite" >/dev/null
}

# three: voters `one` (with what lies there), `two` and `three` on loopback, and nobody else.
three() {
    local name
    found one
    for name in two three; do
        join "$name" one voter
        start "$name"
    done
    on one peers promote two >/dev/null
    settled one 3
}

# settled NODE N: waits until N voters are reached and hold what is published, and one of them leads.
settled() {
    local until=$((SECONDS + 60))
    while on "$1" peers >"$work/peers" 2>"$work/peers.err" || true; do
        if (($(grep '"role":"voter"' "$work/peers" | grep '"reachable":true' | grep -c '"holds_head":true') == $2)) &&
            grep -q '"leader":true' "$work/peers"; then
            return
        fi
        ((SECONDS < until)) || die "the cluster does not settle: $(cat "$work/peers" "$work/peers.err")"
        sleep 0.2
    done
}

leader() { on "$1" peers | grep '"leader":true' | json name; }

# timed COMMAND…: leaves what it prints in $work/out, and the milliseconds that it took in $ms.
timed() {
    local from=$EPOCHREALTIME to
    "$@" >"$work/out" 2>"$work/err" || { tail -n 5 "$work/err" >&2; die "failed: $*"; }
    to=$EPOCHREALTIME
    # shellcheck disable=SC2034 # for the rows
    ms=$(calc "($to - $from) * 1000" 2)
}

# quantile N: so many hundredths of the numbers on stdin are no greater.
quantile() { sort -g | awk -v q="$1" '{ v[NR] = $1 } END { at = int((NR * q + 99) / 100); print v[at] }'; }

# lan NODE…: gives each a network namespace with an interface `eth` on a common Ethernet, 10.213.77.1 and so on.
lan() {
    local name n=0
    ((EUID == 0)) || die "network namespaces need root"
    space[lan]=filesync-$$-lan
    ip netns add "${space[lan]}"
    ip -n "${space[lan]}" link add lan type bridge
    ip -n "${space[lan]}" link set lan up
    for name; do
        n=$((n + 1))
        space[$name]=filesync-$$-$name
        ip netns add "${space[$name]}"
        # Nobody chatters of IPv6, and packets have the size that they would have on a cable.
        ip netns exec "${space[$name]}" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
        ip -n "${space[$name]}" link add eth type veth peer name "port$n" netns "${space[lan]}"
        ip -n "${space[$name]}" link set eth gso_max_segs 1
        ip -n "${space[$name]}" addr add "10.213.77.$n/24" dev eth
        ip -n "${space[$name]}" link set lo up
        ip -n "${space[$name]}" link set eth up
        ip -n "${space[lan]}" link set "port$n" master lan up
    done
}

# crossed NODE: bytes that have crossed its interface, both ways, with all headers.
crossed() {
    within "$1" cat /sys/class/net/eth/statistics/rx_bytes /sys/class/net/eth/statistics/tx_bytes | awk '{ sum += $1 } END { printf "%.0f\n", sum }'
}

# rsync_daemon NODE DIR [IP]: serves a directory, less .filesync, and leaves its address in $rsync_url.
rsync_daemon() {
    local ip=${3:-127.0.0.1}
    new_port
    printf '%s\n' 'use chroot = no' "uid = $(id -u)" "gid = $(id -g)" '[tree]' "path = $2" 'exclude = /.filesync' >"$work/rsyncd.$port"
    background "$1" rsync --daemon --no-detach --config="$work/rsyncd.$port" --address="$ip" --port="$port"
    # shellcheck disable=SC2034 # for the rows
    rsync_url=rsync://$ip:$port/tree/
    until within "$1" rsync "rsync://$ip:$port/" >/dev/null 2>&1; do sleep 0.1; done
}

# Bytes of the objects of a node, as they lie in its packs.
packed() { find "$nodes/$1/.filesync/packs" -type f -printf '%s\n' | awk '{ sum += $1 } END { printf "%.0f\n", sum }'; }

build_stream() {
    stream=${FILESYNC_STREAM:-}
    [[ -z $stream ]] || return 0
    prepare_build
    cargo build --release --locked --manifest-path "$root/Cargo.toml" -p filesync-p2p --example stream >&2
    # shellcheck disable=SC2034 # for the rows
    stream=$CARGO_TARGET_DIR/release/examples/stream
}
