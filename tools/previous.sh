#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# tools/previous.sh - build the previous release's godwit.efi from this repository's history, for the test that moves
# guests between the two (tests/system/test_previous.py).
#
# The result is build/previous/COMMIT/build/godwit.efi; its path is printed.  It is built once, with the third-party
# sources of build/deps.  Exit code 2, with the reason printed: the history is not here (a shallow clone, no git).
set -eu
commit=9026342            # the previous release; set anew at each release
cd "$(dirname "$0")/.."
folder=build/previous/$commit
if [ ! -s $folder/build/godwit.efi ]; then
    if ! git cat-file -e "$commit^{commit}" 2> /dev/null; then
        echo "commit $commit, the previous release, is not in this clone's history: git fetch --unshallow"
        exit 2
    fi
    rm -rf $folder $folder.new
    mkdir -p $folder.new/build
    git archive "$commit" | tar -x -C $folder.new
    ln -s ../../../deps $folder.new/build/deps
    mv $folder.new $folder
    env -u MAKEFLAGS -u MAKELEVEL -u BUILD make --no-print-directory -C $folder -j"$(nproc)" build/godwit.efi \
        > $folder/make.log 2>&1 || { cat $folder/make.log >&2; rm -rf $folder; exit 1; }
fi
echo "$PWD/$folder/build/godwit.efi"
