#!/bin/sh
# Record the scenarios of this folder again and pack both archives.
#
#   record.sh record [NAME...]   run the scenarios (all, or those named) into own/captures, twice, and compare the two runs
#   record.sh pack               pack own/captures into own.tar.gz
#   record.sh pack-oracle        pack the recordings of the oracle folder and the rules they load into oracle.tar.gz
#   record.sh pack-vectors       pack the vectors of PODPATH_VECTORS into vectors.tar.gz
#
# PODPATH_ORACLE names the oracle folder (runner, captures, cni, ipvs), default ../shared/oracle seen from the repository.
# `record` needs root and network namespaces; the packing is reproducible: sorted names, fixed times and owners.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
oracle=$(cd "${PODPATH_ORACLE:-$here/../../../shared/oracle}" && pwd)
case "${PODPATH_TMP:-}" in "") second=$(mktemp -d); trap 'rm -rf "$second"' EXIT ;; *) second=$PODPATH_TMP ;; esac

pack() { # FOLDER ARCHIVE MEMBER...
    dir=$1 out=$2; shift 2
    tar -C "$dir" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX -cf - "$@" | gzip -9n > "$out.new"
    mv "$out.new" "$out"
    echo "$(basename "$out"): $(wc -c < "$out") bytes"
}

# What the scenario's "compare" key asks to leave out, as options of `oracle diff`.
compare_flags() {
    python3 -c '
import json, sys
c = json.load(open(sys.argv[1])).get("compare", {})
print(" ".join(f for k, f in (("arp", "--no-arp"), ("payload", "--no-payload")) if c.get(k) is False))' "$1"
}

record_one() {
    name=$1
    "$oracle/oracle" run "$here/scenarios/$name.json" -o "$here/own/captures/$name"
    "$oracle/oracle" run "$here/scenarios/$name.json" -o "$second/$name" > /dev/null
    # shellcheck disable=SC2046  # the flags are words
    "$oracle/oracle" diff "$here/own/captures/$name/trace.json" "$second/$name/trace.json" $(compare_flags "$here/scenarios/$name.json") \
        || { echo "$name: two runs differ" >&2; return 1; }
}

case "${1:-}" in
record)
    shift
    [ $# -gt 0 ] || set -- $(cd "$here/scenarios" && ls *.json | sed 's/\.json$//')
    failed=0
    for name in "$@"; do record_one "$name" || failed=$((failed + 1)); done
    echo "$# recorded, $failed not repeatable"
    [ "$failed" -eq 0 ]
    ;;
pack) pack "$here/own" "$here/own.tar.gz" captures ;;
pack-oracle) pack "$oracle" "$here/oracle.tar.gz" captures cni/results cni/cases.json ipvs rules ;;
pack-vectors)
    vectors=$(cd "${PODPATH_VECTORS:-$here/../../../shared/vectors}" && pwd)
    pack "$vectors" "$here/vectors.tar.gz" dns kube-proxy networkpolicy
    ;;
*) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
