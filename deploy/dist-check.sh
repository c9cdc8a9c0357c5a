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
# Into a directory, where there is no shell: the package's scripts run outside it.
dpkg_there() { dpkg --root="$root" --log=/dev/null --force-script-chrootless "$@" >"$work/log" 2>&1; }
if [ "$(id -u)" = 0 ]; then
	mkdir -p "$root/var/lib/dpkg/updates" "$root/var/lib/dpkg/info"
	: >"$root/var/lib/dpkg/status"
	dpkg_there --install "$deb" || { cat "$work/log" >&2; die "it can't be installed"; }
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
	# What the operator wrote stays until a purge, and a service that was enabled is so.
	link=$root/etc/systemd/system/multi-user.target.wants/walbridge.service
	[ ! -L "$link" ] || die "the installation enables the service, which has no URLs yet"
	enabled=
	if command -v deb-systemd-helper >/dev/null; then
		enabled=yes
		DPKG_ROOT=$root DPKG_MAINTSCRIPT_PACKAGE=walbridge deb-systemd-helper enable walbridge.service
	fi
	echo 'WALBRIDGE_NAME=mine' >>"$root/etc/walbridge/walbridge.env"
	echo secret >"$root/etc/walbridge/source_url"
	echo mapping >"$root/etc/walbridge/mine.yaml"
	dpkg_there --install "$deb"
	has "$root/etc/walbridge/walbridge.env" WALBRIDGE_NAME=mine
	[ -z "$enabled" ] || [ -L "$link" ] || die "an upgrade disables the service"
	dpkg_there --remove walbridge
	has "$work/log" "walbridge teardown"
	for file in walbridge.env source_url mine.yaml; do [ -f "$root/etc/walbridge/$file" ] || die "a removal takes $file along"; done
	dpkg_there --install "$deb"
	dpkg_there --purge walbridge
	left=$(find "$root" -path "$root/var/lib/dpkg" -prune -o ! -type d -print)
	[ "$left" = "$root/etc/walbridge/mine.yaml" ] || die "a purge leaves not mine.yaml alone, but $left"

	# systemd, where it runs, is told of each change, and the program is stopped before
	# it goes. It doesn't run here, so programs of its name take notes.
	dpkg-deb --control "$deb" "$work/scripts"
	mkdir "$work/bin"
	for name in systemctl deb-systemd-invoke deb-systemd-helper; do
		printf '#!/bin/sh\necho "%s $*" >>"%s/notes"\n' "$name" "$work" >"$work/bin/$name"
	done
	chmod 755 "$work/bin"/*
	told() { # what the scripts say to systemd, except for what it should remember
		: >"$work/notes"
		unshare --mount sh -c 'mount -t tmpfs none /run && mkdir -p /run/systemd/system && PATH=$1/bin:$PATH && shift && exec "$@"' sh "$work" "$@" 2>/dev/null || die "$1 fails"
		grep -v '^deb-systemd-helper' "$work/notes" || true
	}
	if unshare --mount true 2>/dev/null; then
		[ "$(told "$work/scripts/postinst" configure "")" = "systemctl --system daemon-reload" ] || die "postinst doesn't reload systemd"
		[ -z "$(told "$work/scripts/prerm" upgrade 2)" ] || die "an upgrade stops the service"
		[ "$(told "$work/scripts/prerm" remove)" = "deb-systemd-invoke stop walbridge.service" ] || die "prerm doesn't stop the service"
		[ "$(told "$work/scripts/postrm" remove)" = "systemctl --system daemon-reload" ] || die "postrm doesn't reload systemd"
	else
		say "no mount namespaces here, so the scripts are not tried with systemd"
	fi
fi

say "the packages are well"
