#!/bin/sh
# Makes what is given out, in dist/: static programs, what each is made of (CycloneDX),
# Debian packages, and checksums. "make dist" runs it, and deploy/dist-check.sh after
# it.
#
#   deploy/dist.sh VERSION COMMIT
#
# The same commit gives the same files.
set -eu
cd "$(dirname "$0")/.."
version=$1 commit=$2
command -v dpkg-deb >/dev/null || { echo "dist.sh: no dpkg-deb: apt-get install dpkg" >&2; exit 1; }
# A package's version begins with a digit; a describing one has hyphens.
deb=$(echo "${version#v}" | tr - +)
case $deb in [0-9]*) ;; *) deb="0~$deb" ;; esac
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH
umask 022

# size counts kibibytes by the files' lengths; what du says depends on the file system.
size() { find "$1" -type f -printf '%s\n' | awk '{ n += int(($1 + 1023) / 1024) } END { print n }'; }

rm -rf dist
mkdir dist
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# What the program says of itself, by one that runs here.
CGO_ENABLED=0 "${GO:-go}" build -trimpath -buildvcs=false \
	-ldflags "-s -w -X main.version=$version -X main.commit=$commit" -o "$work/walbridge" ./cmd/walbridge
"${GO:-go}" build -o "$work/sbom" ./internal/sbom/cmd
"$work/walbridge" man >dist/walbridge.1
for shell in bash zsh fish; do
	"$work/walbridge" completion $shell >dist/walbridge-completion.$shell
done
for arch in amd64 arm64; do
	program=dist/walbridge-linux-$arch
	CGO_ENABLED=0 GOOS=linux GOARCH=$arch "${GO:-go}" build -trimpath -buildvcs=false \
		-ldflags "-s -w -X main.version=$version -X main.commit=$commit" -o "$program" ./cmd/walbridge
	"$work/sbom" "$program" "$version" >"$program.cdx.json"

	root=$work/$arch
	mkdir -p "$root/DEBIAN"
	install -D -m 755 "$program" "$root/usr/bin/walbridge"
	install -D -m 644 deploy/systemd/walbridge.service "$root/lib/systemd/system/walbridge.service"
	install -D -m 640 deploy/systemd/walbridge.env "$root/etc/walbridge/walbridge.env"
	install -D -m 644 LICENSE "$root/usr/share/doc/walbridge/copyright"
	install -m 644 "$program.cdx.json" "$root/usr/share/doc/walbridge/walbridge.cdx.json"
	install -m 644 README.md CHANGELOG.md docs/*.md "$root/usr/share/doc/walbridge/"
	install -D -m 644 -t "$root/usr/share/doc/walbridge/examples" configs/*.yaml
	share=$root/usr/share
	install -D -m 644 dist/walbridge-completion.bash "$share/bash-completion/completions/walbridge"
	install -D -m 644 dist/walbridge-completion.zsh "$share/zsh/vendor-completions/_walbridge"
	install -D -m 644 dist/walbridge-completion.fish "$share/fish/vendor_completions.d/walbridge.fish"
	install -D -m 644 dist/walbridge.1 "$share/man/man1/walbridge.1"
	gzip -9n "$share/man/man1/walbridge.1"
	echo /etc/walbridge/walbridge.env >"$root/DEBIAN/conffiles"
	install -m 755 -t "$root/DEBIAN" deploy/debian/postinst deploy/debian/prerm deploy/debian/postrm
	installed=$(size "$root")
	cat >"$root/DEBIAN/control" <<EOF
Package: walbridge
Version: $deb
Architecture: $arch
Maintainer: walbridge
Section: database
Priority: optional
Installed-Size: $installed
Description: keeps Supabase tables in step with a Django application's PostgreSQL
 Follows the write-ahead log of a Django application's database and keeps tables
 of a Supabase project in step with it: every row tagged with its tenant, every
 change audited, nothing lost, nothing twice.
EOF
	dpkg-deb --root-owner-group --build "$root" "dist/walbridge_${deb}_$arch.deb" >/dev/null
done
(cd dist && sha256sum walbridge* >SHA256SUMS)
ls -l dist
