# Shared by the scripts of this folder; sourced, never run. The caller has set -euo pipefail.

# The repository's root, whatever the caller's working directory is.
ATONE_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
ATONE_CACHE=$ATONE_ROOT/.cache

say() { printf '%s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# A step's heading with the seconds since the script began, so that progress can be followed.
step() { printf '\n==> [%3ds] %s\n' "$SECONDS" "$*" >&2; }

# Prints the prefix that makes a command run as root, or fails where there is none.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif have sudo && sudo -n true 2>/dev/null; then
        sudo "$@"
    elif have sudo && [ -t 0 ]; then
        say "sudo may ask for your password to install Debian packages"
        sudo "$@"
    else
        return 77
    fi
}

# Installs Debian packages, named with the reason why they are wanted. Their services are of no use here: a policy-rc.d, for
# as long as it takes, keeps them from being started, and MariaDB's, where it was not there before, is disabled behind.
apt_install() {
    local why=$1 status=0
    shift
    have apt-get || die "$why is missing and there is no apt-get: install it yourself ($*)"
    say "installing $* (for $why)"
    mkdir -p "$ATONE_CACHE"
    exec 8>"$ATONE_CACHE/apt.lock"
    flock 8
    apt_try_install "$@" || status=$?
    if [ "$status" -ne 0 ] && [ "$status" -ne 77 ]; then
        as_root apt-get -q update >&2 || die "apt-get update failed"
        status=0
        apt_try_install "$@" || status=$?
    fi
    exec 8>&-
    [ "$status" -ne 77 ] || die "$why is missing: run as root or with sudo, or install it yourself: apt-get install $*"
    [ "$status" -eq 0 ] || die "apt-get install $* failed"
}

apt_try_install() {
    as_root env DEBIAN_FRONTEND=noninteractive sh -c '
        policy=/usr/sbin/policy-rc.d ours= had= status=0
        [ -e /lib/systemd/system/mariadb.service ] && had=1
        [ -e "$policy" ] || { printf "#!/bin/sh\nexit 101\n" >"$policy" && chmod 755 "$policy" && ours=1; }
        trap "[ -z \"\$ours\" ] || rm -f \"\$policy\"" EXIT
        apt-get -q -y -o DPkg::Lock::Timeout=300 --no-install-recommends install "$@" || status=$?
        if [ -z "$had" ] && [ -e /lib/systemd/system/mariadb.service ] && command -v systemctl >/dev/null; then
            systemctl disable mariadb.service || true
        fi
        exit "$status"' apt_try_install "$@" >&2
}

# The linker that Rust needs.
ensure_cc() {
    have cc || apt_install "a C linker" build-essential
}

ensure_sysbench() {
    have sysbench || apt_install "sysbench" sysbench
}

ensure_cargo() {
    have cargo || [ ! -f "$HOME/.cargo/env" ] || . "$HOME/.cargo/env"
    have cargo || die "cargo is missing: install Rust from https://rustup.rs"
}

# Where cargo puts what it builds.
target_dir() {
    printf '%s\n' "${CARGO_TARGET_DIR:-$ATONE_ROOT/target}"
}

# The cargo profile that the demo is built in, and its folder in there: "dev", which is built soonest, unless another one is
# there already.
profile=${ATONE_PROFILE:-dev}
profile_dir() {
    case $profile in
        dev) printf '%s/debug\n' "$(target_dir)" ;;
        *) printf '%s/%s\n' "$(target_dir)" "$profile" ;;
    esac
}
