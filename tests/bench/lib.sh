# shellcheck shell=bash
# The harness of the benchmarks: competitors take turns on one machine, each run is a process measured whole.
#
#   RUNS=5         counted runs of each competitor, after one that warms up
#   BENCH_DIR=…    where to work; holds inputs that are kept between runs, up to 30 GB
#   BENCH_DIV=1    divides the sizes of the large inputs, to try the scripts on a small machine
#   BENCH_TREE=…   a tree to use instead of the Linux source
#   FILESYNC=…     a program to measure instead of the release build of this checkout

set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"
export LC_ALL=C
runs=${RUNS:-5}
div=${BENCH_DIV:-1}
bench_dir=${BENCH_DIR:-${TMPDIR:-/tmp}/filesync-bench}
inputs=$bench_dir/inputs
mkdir -p "$inputs"
work=$(mktemp -d "$bench_dir/work.XXXXXX")
trap 'rm -rf "$work"' EXIT

need time /usr/bin/time
if [[ -n ${FILESYNC:-} ]]; then
    filesync=$FILESYNC
    install_missing
else
    build_release >&2
fi
fs() { "$filesync" --progress never "$@"; }

# ---- taking turns

peers=()
declare -A peer_prepare peer_store peer_command

# peer NAME PREPARE STORE COMMAND…: registers a competitor of the next contest. PREPARE is called before each run
# and not timed; STORE is measured after each run, `-` for none.
peer() {
    local name=$1
    peers+=("$name")
    peer_prepare[$name]=$2
    peer_store[$name]=$3
    shift 3
    peer_command[$name]=$(printf '%q ' "$@")
}

# Runs a competitor once and adds a line "wall user system peak_kib store_bytes" to its results.
turn() {
    local name=$1 results=$2 store=0 log=$work/turn
    "${peer_prepare[$name]}" >"$log.prepare" 2>&1 || { cat "$log.prepare" >&2; die "$name: the preparation failed"; }
    # Nobody pays for what another one left to be written.
    sync
    local TIMEFORMAT='%3R %3U %3S'
    # The shell's own clock counts milliseconds; GNU time, which counts hundredths, is there for the memory.
    { time eval "/usr/bin/time -o $(printf %q "$log.peak") -f %M ${peer_command[$name]}" \
        >"$log.out" 2>"$log.err" </dev/null; } 2>"$log.time" ||
        { tail -n 5 "$log.err" >&2; die "$name: failed: ${peer_command[$name]}"; }
    [[ ${peer_store[$name]} == - ]] || store=$(du -s --block-size=1 "${peer_store[$name]}" | cut -f 1)
    printf '%s %s %s\n' "$(<"$log.time")" "$(tail -n 1 "$log.peak")" "$store" >>"$results"
}

# contest TITLE: one warm-up and $runs counted runs of each registered competitor, in turn, then a table of medians.
# The first one is what the others are compared with. Results stay readable through `median` until the next contest.
contest() {
    local round name
    results=$work/results
    rm -rf "$results" && mkdir "$results"
    for ((round = 0; round <= runs; round++)); do
        for name in "${peers[@]}"; do
            printf '%s: round %d of %d: %s\n' "$1" "$round" "$runs" "$name" >&2
            turn "$name" "$results/$name"
            # The warm-up is forgotten, unless it is all there is.
            ((round > 0 || runs == 0)) || rm "$results/$name"
        done
    done
    table "$1"
    peers=()
}

# once TITLE: as contest, one run each and no warm-up, for what takes minutes.
once() {
    local runs=0
    contest "$1"
}

# median NAME COLUMN: of the last contest; columns wall, cpu, peak (MiB), store (MB).
median() {
    awk -v column="$2" '{
        print column == "wall" ? $1 : column == "cpu" ? $2 + $3 : column == "peak" ? $4 / 1024 : $5 / 1e6
    }' "$results/$1" | middle
}

# Median of the numbers on stdin.
middle() {
    sort -g | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

table() {
    local name first=${peers[0]} width=0
    for name in "${peers[@]}"; do ((${#name} <= width)) || width=${#name}; done
    printf '\n### %s\n\nMedians of %d; the ratios are those of %s to the row.\n\n' "$1" "$(wc -l <"$results/$first")" "$first"
    printf "| %-${width}s | wall s | from-to | CPU s | peak MiB | store MB | wall ratio | CPU ratio |\n" ""
    printf "|%s|--:|--:|--:|--:|--:|--:|--:|\n" "$(printf '%*s' $((width + 2)) '' | tr ' ' -)"
    for name in "${peers[@]}"; do
        printf "| %-${width}s | %.3f | %s | %.3f | %.0f | %s | %s | %s |\n" "$name" "$(median "$name" wall)" \
            "$(cut -d ' ' -f 1 "$results/$name" | sort -g | sed -n '1h;$ { H; x; s/\n/-/; p }')" \
            "$(median "$name" cpu)" "$(median "$name" peak)" \
            "$([[ ${peer_store[$name]} == - ]] && echo - || printf '%.0f' "$(median "$name" store)")" \
            "$(ratio "$(median "$first" wall)" "$(median "$name" wall)")" \
            "$(ratio "$(median "$first" cpu)" "$(median "$name" cpu)")"
    done
    printf '\n'
}

ratio() { awk -v a="$1" -v b="$2" 'BEGIN { if (b > 0) printf "%.2f", a / b; else printf "-" }'; }
calc() { awk "BEGIN { printf \"%.${2:-2}f\\n\", $1 }"; }

# aim WHAT FOUND OPERATOR WANTED: a line that says whether an aim of the project is reached.
aim() {
    local verdict=missed
    awk "BEGIN { exit !($2 $3 $4) }" && verdict=reached
    printf -- '- %s: %s, aim %s %s: %s\n' "$1" "$2" "${3/<=/≤}" "$4" "$verdict" | sed 's/>=/≥/'
}
note() { printf -- '- %s\n' "$*"; }

# ---- what the rows share

# Each peer has a directory of its own; only one store exists at a time, so that none warms another's cache.
clean_stores() { rm -rf "$work"/{restic,borg,git} "$tree/.filesync"; }

# An unpacked Linux 6.1, made once; $tree is a copy to work in.
need_tree() {
    pristine=${BENCH_TREE:-$inputs/linux-source-6.1}
    if [[ ! -d $pristine ]]; then
        need linux-source-6.1 /usr/src/linux-source-6.1.tar.xz
        need xz-utils xz
        install_missing
        mkdir "$work/unpack"
        tar -C "$work/unpack" -xf /usr/src/linux-source-6.1.tar.xz
        # Named only when complete: an interrupted run leaves no half tree behind.
        mv "$work/unpack/linux-source-6.1" "$pristine"
    fi
    tree=$work/tree
    cp -a "$pristine" "$tree"
    # Debian's tells git to ignore everything; git is to see what the others see.
    rm -f "$tree/.gitignore"
    note "tree: $(find "$tree" -type f | wc -l) files, $(calc "$(du -s --apparent-size --block-size=1 "$tree" | cut -f 1) / 1e6" 0) MB"
}

need_peers() {
    local name
    for name; do
        case $name in
            borg) need borgbackup borg ;;
            *) need "$name" "$name" ;;
        esac
    done
    install_missing
    # Their settings and caches go with the work directory; nothing of the user's takes part.
    export RESTIC_PASSWORD=bench RESTIC_CACHE_DIR=$work/cache/restic
    export BORG_BASE_DIR=$work/cache/borg BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes BORG_RELOCATED_REPO_ACCESS_IS_OK=yes
    export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
    export GIT_AUTHOR_NAME=bench GIT_AUTHOR_EMAIL=bench@localhost GIT_COMMITTER_NAME=bench GIT_COMMITTER_EMAIL=bench@localhost
}

filesync_init() { fs init "$tree"; }
filesync_commit() { fs -C "$tree" commit -m bench; }
restic_init() { restic -q init -r "$work/restic"; }
restic_commit() { (cd "$tree" && restic -q -r "$work/restic" backup --exclude .filesync .); }
borg_init() { borg init -e none "$work/borg"; }
git_dir() { printf '%s\n' "--git-dir=$work/git" "--work-tree=$tree"; }
git_init() {
    git init -q --bare "$work/git"
    git --git-dir="$work/git" config core.bare false
    # Repacking in the background would disturb the next competitor.
    git --git-dir="$work/git" config gc.auto 0
    echo /.filesync >"$work/git/info/exclude"
}
git_commit() {
    git --git-dir="$work/git" --work-tree="$tree" add -A
    git --git-dir="$work/git" --work-tree="$tree" commit -q -m bench
}

# The rates of the machine, from a small program in Rust built with the same settings as filesync.
build_rates() {
    rates=${FILESYNC_RATES:-}
    [[ -z $rates ]] || return 0
    prepare_build
    cargo build --release --locked --manifest-path "$root/Cargo.toml" -p filesync-tests --example rates >&2
    # shellcheck disable=SC2034 # for the rows
    rates=$CARGO_TARGET_DIR/release/examples/rates
}

# A file of random bytes, made once. incompressible FILE MIB
incompressible() {
    [[ -f $1 && $(stat -c %s "$1") -eq $(($2 << 20)) ]] || head -c "$2M" /dev/urandom >"$1"
}

# json FIELD: the value of a number or string in the one object on stdin; nothing if it is not there.
json() { sed -n "s/.*\"$1\":\"\{0,1\}\([^\",}]*\).*/\1/p" | head -n 1; }

machine() {
    local speed
    speed=$(dd if=/dev/zero of="$work/dd" bs=1M count=512 conv=fdatasync 2>&1 | sed -n 's/.*, \([^,]*\)$/\1/p')
    rm -f "$work/dd"
    printf 'Machine: %s cores (%s), %s MiB of memory, Linux %s, %s on %s, dd with fdatasync %s. Figures from %s.\n' \
        "$(nproc)" "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" \
        "$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)" "$(uname -r)" \
        "$(stat -f -c %T "$work")" "$(. /etc/os-release && echo "$PRETTY_NAME")" "$speed" "$(date -u +%F)"
    ((div == 1)) || printf "Sizes divided by %s: the figures only try the scripts.\n" "$div"
}
