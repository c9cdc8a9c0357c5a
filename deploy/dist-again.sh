#!/bin/sh
# Makes again what is in dist/, from a copy in another place, by another mask, in
# another zone, and sees that it is the same. "make test-dist" runs it.
#
#   deploy/dist-again.sh VERSION COMMIT
set -eu
cd "$(dirname "$0")/.."
version=$1 commit=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir "$work/again"
git ls-files -z | tar --create --null --files-from=- --file=- | tar --extract --directory="$work/again"
(
	umask 077
	SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) TZ=Pacific/Auckland
	export SOURCE_DATE_EPOCH TZ
	sh "$work/again/deploy/dist.sh" "$version" "$commit" >/dev/null
)
diff dist/SHA256SUMS "$work/again/dist/SHA256SUMS" >&2 || { echo "dist-again: the second build differs" >&2; exit 1; }
echo "dist-again: the second build is the same" >&2
