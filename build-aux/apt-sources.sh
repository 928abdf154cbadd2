# The machine's own Debian package sources, for another root of the same release; a library to be sourced.
# SPDX-License-Identifier: BSD-3-Clause

# apt_sources_print CODENAME: prints the machine's sources of that release, with its updates and security fixes; other
# archives and suites (backports, say) stay out. Fails if there is none.
apt_sources_print() {
    local f found
    found=$(
        for f in /etc/apt/sources.list.d/*.sources; do
            [[ -e $f ]] || continue
            sed '/^#/d' "$f" | awk -v RS= -v code="$1" '
                $0 ~ "(^|\n)Suites:([^\n]*[ \t])?" code "(-security)?([ \t\n]|$)" { print $0 "\n" }'
        done
        for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
            [[ -e $f ]] || continue
            awk -v code="$1" '$1 == "deb" && $0 ~ "[ \t]" code "(-security|-updates)?[ \t]"' "$f"
        done
    )
    [[ -n $found ]] && printf '%s\n' "$found"
}

# Prints what the machine tells apt about proxies and validity, which holds for the other root as well; and that a mirror
# that fails for a moment is asked again.
apt_options_print() {
    echo 'Acquire::Retries "6";'
    apt-config dump Acquire | grep -Ei '::(http|https)::proxy|Check-(Date|Valid-Until)' || :
}
