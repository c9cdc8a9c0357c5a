#!/bin/sh
# Installs what the integration tests and the demo need: a PostgreSQL server (14 or
# newer), PgBouncer, and, for the tests with a real Django, python3 with django and
# psycopg2.
#
#   internal/pgtest/install.sh
#
# On Debian and its relatives it uses apt-get, as root or through sudo without a
# password; elsewhere it prints what to install and exits with 1. It does nothing
# where everything is there, and never touches a cluster that exists.
set -eu

say() { echo "install.sh: $*" >&2; }

have_server() {
	[ -n "${TEST_POSTGRES_BIN:-}" ] && [ -x "$TEST_POSTGRES_BIN/initdb" ] && return
	for dir in /usr/lib/postgresql/*/bin "$(pg_config --bindir 2>/dev/null)" \
		"$(dirname "$(command -v postgres 2>/dev/null || echo /nowhere/postgres)")"; do
		[ -x "$dir/initdb" ] && [ -x "$dir/postgres" ] && return
	done
	return 1
}
have_pooler() { command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ] || [ -x /usr/local/sbin/pgbouncer ]; }
# Debian's packages serve Debian's python3, which need not be the first in the PATH.
have_python() { python3 -c "import $1" 2>/dev/null || /usr/bin/python3 -c "import $1" 2>/dev/null; }

missing=
have_server || missing="postgresql-15"
have_pooler || missing="$missing pgbouncer"
have_python django || missing="$missing python3-django"
have_python psycopg2 || missing="$missing python3-psycopg2"
[ -n "$missing" ] || exit 0

by_hand() {
	say "$1; install these yourself and run it again:"
	have_server || say "  PostgreSQL server 14 or newer (initdb and postgres), found in the PATH or by TEST_POSTGRES_BIN=DIR"
	have_pooler || say "  PgBouncer (pgbouncer)"
	have_python django || say "  Django for python3 (pip install django)"
	have_python psycopg2 || say "  psycopg2 for python3 (pip install psycopg2-binary)"
	exit 1
}

command -v apt-get >/dev/null || by_hand "no apt-get here"
if [ "$(id -u)" = 0 ]; then
	as_root() { env DEBIAN_FRONTEND=noninteractive "$@"; }
elif sudo -n true 2>/dev/null; then
	as_root() { sudo -n env DEBIAN_FRONTEND=noninteractive "$@"; }
else
	by_hand "apt-get needs root, and sudo asks for a password"
fi

has_candidate() { apt-cache policy "$1" 2>/dev/null | grep -q 'Candidate: [0-9]'; }
install() { as_root apt-get install --yes --quiet --no-install-recommends "$@" >&2; }

# Lists may be absent (container images) or name packages that are gone.
for package in $missing; do
	has_candidate "$package" || { as_root apt-get update --quiet >&2; break; }
done
if ! has_candidate postgresql-15; then
	# Other releases carry another major under the unversioned name.
	missing=$(echo "$missing" | sed 's/postgresql-15/postgresql/')
fi

case " $missing " in
*" postgresql"*)
	# The server's package makes and starts a cluster on port 5432. The tests have
	# their own, so a machine that had no PostgreSQL before gets none running.
	if ! dpkg-query --show postgresql-common >/dev/null 2>&1; then
		install postgresql-common || { as_root apt-get update --quiet >&2; install postgresql-common; }
		as_root sed -i 's/^#\{0,1\}create_main_cluster .*/create_main_cluster = false/' \
			/etc/postgresql-common/createcluster.conf
	fi
	;;
esac
# shellcheck disable=SC2086 # a list of package names
install $missing || { as_root apt-get update --quiet >&2; install $missing; }
