#!/bin/sh
# Puts Prometheus' promtool into the user's cache, where the tests of the alert rules
# and of the dashboard find it. The package isn't installed, because it starts a
# server.
#
#   internal/status/web/promtool.sh
#
# It never fails: without apt-get or a network those tests are skipped.
set -u

cache=${XDG_CACHE_HOME:-$HOME/.cache}/walbridge
if command -v promtool >/dev/null || [ -x "$cache/promtool" ]; then exit 0; fi
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if (cd "$work" && apt-get download --quiet prometheus >&2 && dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool); then
	mkdir -p "$cache" && mv "$work/usr/bin/promtool" "$cache/promtool"
else
	echo "promtool.sh: no promtool, so the tests of the alert rules are skipped" >&2
fi
exit 0
