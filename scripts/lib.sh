# shellcheck shell=bash
# Sourced by every script of this repository: finds the root, installs what is missing, sets up the build.
# Installing is decided by looking for files, so that a second run costs nothing and works without a network.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# For the caller's own messages: what a plain reader of the output should see first.
say() { printf '%s\n' "$*"; }
die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

missing_packages=()

# need PACKAGE PROBE: PROBE is the name of a command, or a glob of files if it starts with a slash.
need() {
    case $2 in
        /*) compgen -G "$2" >/dev/null && return ;;
        *) command -v "$2" >/dev/null && return ;;
    esac
    missing_packages+=("$1")
}

# Installs what `need` found missing, with Debian's package manager.
install_missing() {
    ((${#missing_packages[@]})) || return 0
    local as_root=()
    command -v apt-get >/dev/null || die "please install: ${missing_packages[*]} (no apt-get here)"
    if ((EUID != 0)); then
        command -v sudo >/dev/null || die "please install as root: apt-get install ${missing_packages[*]}"
        as_root=(sudo)
    fi
    say "installing: ${missing_packages[*]}"
    # The lists of a fresh machine are empty and those of an old one name packages that are gone. A failed
    # update is no reason to stop: the lists that are there may do.
    "${as_root[@]}" apt-get update -qq </dev/null || say "apt-get update failed, trying with the old lists"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing_packages[@]}" </dev/null >/dev/null ||
        die "could not install: ${missing_packages[*]}"
    missing_packages=()
}

# What a build takes: Rust, a C++ compiler for RocksDB, libclang for its bindings, a compiler cache.
prepare_build() {
    command -v cargo >/dev/null || die "cargo not found: install $(rust_wanted) or newer, see the README"
    need g++ g++
    need ccache ccache
    # Libraries that a caller keeps elsewhere count too.
    [[ -n ${LIBCLANG_PATH:-} ]] || need libclang-dev '/usr/lib/llvm-*/lib/libclang.so'
    install_missing
    # RocksDB takes a quarter of an hour on two cores. Cached objects and one target directory outside of the
    # checkout let every clone on the machine share it.
    export CC="ccache gcc" CXX="ccache g++"
    export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/filesync/target}
}

# Why the cluster under faults cannot run here: nothing if it can.
chaos_lacks() {
    ((EUID == 0)) || { say "network namespaces and mounts are for root"; return; }
    unshare --net sh -c 'ip link set lo up && ip link add near type veth peer name far' 2>/dev/null ||
        { say "no network namespaces with virtual interfaces can be made here"; return; }
    local dir
    dir=$(mktemp -d)
    if mkdir "$dir/at" && truncate -s 16M "$dir/image" && mkfs.ext4 -q -F "$dir/image" &&
        mount -o loop "$dir/image" "$dir/at" 2>/dev/null; then
        umount "$dir/at"
    else
        say "no file system can be mounted here"
    fi
    rm -rf "$dir"
}

# The cluster under faults, by the tests that are built already. It is to have the machine for itself.
run_chaos() {
    FILESYNC_BIN=$CARGO_TARGET_DIR/debug/filesync cargo test --workspace --locked --test it -- --ignored --nocapture \
        --exact cluster::chaos::cluster_of_processes_keeps_its_promises_whatever_happens
}

rust_wanted() { sed -n 's/^rust-version = "\(.*\)"/Rust \1/p' "$root/Cargo.toml"; }

# Builds the program as a user gets it and names it in $filesync.
build_release() {
    prepare_build
    cargo build --release --locked --manifest-path "$root/Cargo.toml" -p filesync-cli
    # shellcheck disable=SC2034 # for the caller
    filesync=$CARGO_TARGET_DIR/release/filesync
}
