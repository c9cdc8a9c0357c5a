#!/bin/sh
# Installs what some tests use where it is there, and skip without: PostgreSQL's
# pg_cron, node, and supabase-js in the user's cache for those of the readers' side,
# Chromium for those of the status page.
#
#   internal/supabase/extras.sh
#
# It never fails: a machine without apt-get, without the right to install or without
# a network tests less.
set -u

version=2.119.1
cache=${XDG_CACHE_HOME:-$HOME/.cache}/walbridge/supabase-js-$version

missing=
set -- /usr/lib/postgresql/*/lib/pg_cron.so
[ -e "$1" ] || missing=postgresql-15-cron
command -v node >/dev/null || missing="$missing nodejs"
command -v npm >/dev/null || missing="$missing npm"
command -v chromium >/dev/null || missing="$missing chromium"
sudo=
[ "$(id -u)" = 0 ] || sudo="sudo -n"
if [ -n "$missing" ] && command -v apt-get >/dev/null && { [ -z "$sudo" ] || sudo -n true 2>/dev/null; }; then
	for package in $missing; do # each for itself: one may have no candidate
		$sudo env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends "$package" >&2 ||
			echo "extras.sh: no $package, so its tests are skipped" >&2
	done
fi

if [ ! -d "$cache" ] && command -v npm >/dev/null; then
	mkdir -p "$cache.new"
	if npm install --prefix "$cache.new" --no-audit --no-fund --ignore-scripts --silent "@supabase/supabase-js@$version" >&2; then
		mv "$cache.new" "$cache" 2>/dev/null || rm -rf "$cache.new" # another run was faster
	else
		rm -rf "$cache.new"
		echo "extras.sh: no supabase-js, so its test is skipped" >&2
	fi
fi
exit 0
