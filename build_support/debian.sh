# For scripts that make folders with Debian's packages. They source this file: . "$support/debian.sh"
# They set log, a file; make_whole also takes root, refuse and make_root from them.

# quietly COMMAND...: run it without input. What it prints goes to the log.
quietly() { "$@" </dev/null >>"$log" 2>&1; }

# Prints the mirror of Debian that the machine itself uses; nothing if it is not a Debian.
mirror() {
    grep -rhoE '^(deb|URIs:) .*' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null |
        grep -oE 'https?://[^ ]*/debian/?( |$)' | head -n 1 | tr -d ' ' || true
}

# Makes the folder $root: make_root makes $new, which becomes $root only when it is complete.
make_whole() {
    log=$root.failed.log new=$root.new
    mkdir -p "$(dirname "$root")"
    rm -rf "$new" "$log"
    if ! (make_root); then
        rm -rf --one-file-system "$new"
        refuse "as Debian's packages could not be had: $(tail -n 1 "$log" 2>/dev/null) (see $log)"
    fi
    rm -rf "$root"
    mv "$new" "$root"
    rm -f "$log"
}
