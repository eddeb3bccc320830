# Sourced by the scripts of benches/: what must be there, and how it comes to be there.

packages=()

# need COMMAND PACKAGE
need() {
    if ! command -v "$1" >/dev/null && ! [ -x "/usr/sbin/$1" ]; then
        if [ -z "$2" ]; then
            echo "$1 is missing: install it and try again" >&2
            exit 1
        fi
        packages+=("$2")
    fi
}

# need_file FILE PACKAGE
need_file() {
    [ -e "$1" ] || packages+=("$2")
}

install_needed() {
    if ! command -v python3 >/dev/null; then
        packages+=(python3)
    fi
    [ "${#packages[@]}" -gt 0 ] || return 0
    echo "missing, installing: ${packages[*]}"
    if ! command -v apt-get >/dev/null; then
        echo "there is no apt-get here: install ${packages[*]} and try again" >&2
        exit 1
    fi
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || {
            echo "as root, run: apt-get install --no-install-recommends ${packages[*]}" >&2
            exit 1
        }
        as_root=(sudo)
    fi
    "${as_root[@]}" apt-get update -qq
    # Servers are started by the scripts themselves, never as services.
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get install -qq -y --no-install-recommends "${packages[@]}" >/dev/null
}

# Servers live in /usr/sbin, which is not in everybody's PATH.
export PATH="$PATH:/usr/sbin"
