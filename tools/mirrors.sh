# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# tools/mirrors.sh - which mirrors of the Debian archive does this machine use?  Sourced by scripts that fetch packages.
#
# environment: DEPS_MIRROR, DEPS_SECURITY_MIRROR  archives to use instead of the machine's own

KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# Set MAIN and SECURITY, empty where the machine has none.  apt parses its own lists (classic or deb822); this reads
# configuration only.
find_mirrors() {
    local uri main='' security=''
    while read -r uri; do
        uri=${uri%/}
        case $uri in
        *security*) security=${security:-$uri} ;;
        */debian|*debian/*) main=${main:-$uri} ;;
        esac
    done < <(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | sort -u || true)
    MAIN=${DEPS_MIRROR:-$main}; SECURITY=${DEPS_SECURITY_MIRROR:-$security}
}

# Print lines for sources.list: a suite and its security updates, for each type (deb, deb-src).  After find_mirrors.
sources_list() {    # suite type...
    local suite=$1 type signed=''; shift
    [ -r $KEYRING ] && signed="[signed-by=$KEYRING] "
    for type; do printf '%s\n' "$type $signed$MAIN $suite main"; done
    [ -z "$SECURITY" ] || for type; do printf '%s\n' "$type $signed$SECURITY $suite-security main"; done
}
