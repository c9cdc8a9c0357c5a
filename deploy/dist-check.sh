#!/bin/sh
# Tests what deploy/dist.sh has left in dist/: contents, an installation into a
# directory, and the service. "make dist" runs it.
#
#   deploy/dist-check.sh VERSION COMMIT
#
# Without systemd-analyze, or without root, it checks less and says so.
set -eu
cd "$(dirname "$0")/.."
version=$1 commit=$2
export GO="${GO:-go}" LC_ALL=C
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
say() { echo "dist-check: $*" >&2; }
die() { say "$*"; exit 1; }
has() { grep -Fq -- "$2" "$1" || die "$1 lacks: $2"; }

(cd dist && sha256sum --quiet --check SHA256SUMS)
[ "$(find dist -type f ! -name SHA256SUMS | wc -l)" = "$(wc -l <dist/SHA256SUMS)" ] || die "SHA256SUMS doesn't list every file"

for arch in amd64 arm64; do
	program=dist/walbridge-linux-$arch
	"$GO" version -m "$program" >"$work/info"
	for setting in CGO_ENABLED=0 GOARCH=$arch GOOS=linux -trimpath=true; do has "$work/info" "$setting"; done
	if grep -aFq "$(pwd)" "$program"; then die "$program names the directory that it was built in"; fi

	bill=$program.cdx.json
	has "$bill" '"specVersion": "1.5"'
	has "$bill" "$(sha256sum "$program" | cut -d' ' -f1)"
	# Every module is in it, and each has a license: all are meant to be known.
	for module in $(awk '$1 == "dep" { print $2 "@" $3 }' "$work/info"); do has "$bill" "\"pkg:golang/$(echo "$module" | tr A-Z a-z)\""; done
	[ "$(grep -c '"licenses"' "$bill")" = "$(grep -c '"type"' "$bill")" ] || die "$bill has a component without a license"

	deb=$(ls dist/walbridge_*_$arch.deb)
	dpkg-deb --info "$deb" >"$work/control"
	has "$work/control" "Architecture: $arch"
	has "$work/control" "Package: walbridge"
	dpkg-deb --contents "$deb" >"$work/contents"
	if grep -v ' root/root ' "$work/contents"; then die "$deb has files that are not root's"; fi
	if awk '{ print $1 }' "$work/contents" | grep -E '^-.{7}w|^-.{4}w|s'; then die "$deb has files that others may write, or that change the user"; fi
	has "$work/contents" "-rwxr-xr-x root/root"
	for file in usr/bin/walbridge lib/systemd/system/walbridge.service etc/walbridge/walbridge.env \
		usr/share/man/man1/walbridge.1.gz usr/share/bash-completion/completions/walbridge \
		usr/share/zsh/vendor-completions/_walbridge usr/share/fish/vendor_completions.d/walbridge.fish \
		usr/share/doc/walbridge/copyright usr/share/doc/walbridge/operations.md \
		usr/share/doc/walbridge/walbridge.cdx.json usr/share/doc/walbridge/examples/niochat.yaml; do
		has "$work/contents" " ./$file"
	done
	grep -Eq '^-rw-r----- root/root .* ./etc/walbridge/walbridge.env$' "$work/contents" || die "the settings can be read by others"
done

arch=$(dpkg --print-architecture)
root=$work/root
deb=$(ls dist/walbridge_*_"$arch".deb) || die "no package for this machine ($arch)"
if [ "$(id -u)" = 0 ]; then
	mkdir -p "$root/var/lib/dpkg/updates" "$root/var/lib/dpkg/info"
	: >"$root/var/lib/dpkg/status"
	dpkg --root="$root" --log=/dev/null --install "$deb" >"$work/log" 2>&1 || { cat "$work/log" >&2; die "it can't be installed"; }
else
	say "not root, so the package is only unpacked"
	dpkg-deb --extract "$deb" "$root"
fi
"$root/usr/bin/walbridge" version >"$work/said"
has "$work/said" "walbridge $version (commit $commit,"
gzip -dc "$root/usr/share/man/man1/walbridge.1.gz" >"$work/walbridge.1"
has "$work/walbridge.1" ".TH"
if command -v man >/dev/null; then
	LC_ALL=C.UTF-8 man --warnings -l "$work/walbridge.1" >/dev/null 2>"$work/log" && [ ! -s "$work/log" ] || { cat "$work/log" >&2; die "man can't show the page"; }
fi
share=$root/usr/share
bash -n "$share/bash-completion/completions/walbridge"
if command -v zsh >/dev/null; then zsh -n "$share/zsh/vendor-completions/_walbridge"; fi
if command -v fish >/dev/null; then fish --no-execute "$share/fish/vendor_completions.d/walbridge.fish"; fi

if command -v systemd-analyze >/dev/null; then
	# systemd looks for the program where it will be.
	sed "s|^ExecStart=/usr/bin/|ExecStart=$root/usr/bin/|" "$root/lib/systemd/system/walbridge.service" >"$work/walbridge.service"
	systemd-analyze --man=no verify "$work/walbridge.service" >"$work/log" 2>&1 || { cat "$work/log" >&2; die "systemd refuses the service"; }
	if grep walbridge.service "$work/log"; then die "systemd has something to say about the service"; fi
	# In tenths: it has about 12, and above 20 something has been given away.
	systemd-analyze --offline=yes --threshold=20 security "$work/walbridge.service" >"$work/log" 2>&1 || { cat "$work/log" >&2; die "the service is less hardened than it was"; }
	say "$(grep -o 'Overall exposure.*' "$work/log")"
else
	say "no systemd-analyze, so the service isn't checked"
fi

if [ "$(id -u)" = 0 ]; then
	# What the operator wrote stays until a purge.
	echo 'WALBRIDGE_NAME=mine' >>"$root/etc/walbridge/walbridge.env"
	dpkg --root="$root" --log=/dev/null --install "$deb" >/dev/null
	has "$root/etc/walbridge/walbridge.env" WALBRIDGE_NAME=mine
	dpkg --root="$root" --log=/dev/null --purge walbridge >"$work/log" 2>&1
	left=$(find "$root" -path "$root/var" -prune -o -type f -print)
	[ -z "$left" ] || die "a purge leaves $left"
fi

say "the packages are well"
