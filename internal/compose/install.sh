#!/bin/sh
# Installs what the tests of the compose stack need: Docker's engine, Compose, and
# debootstrap, which makes images without a registry.
#
#   internal/compose/install.sh
#
# On Debian and its relatives it uses apt-get, as root; elsewhere it says what is
# missing and leaves it to the tests to say that they can't run. It starts nothing:
# the tests start an engine where none runs, and end it.
set -eu

missing=
command -v dockerd >/dev/null && command -v docker >/dev/null || missing="$missing docker.io"
docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null || missing="$missing docker-compose"
command -v debootstrap >/dev/null || missing="$missing debootstrap"
command -v iptables >/dev/null || missing="$missing iptables"
command -v ip >/dev/null || missing="$missing iproute2"
command -v nsenter >/dev/null || missing="$missing util-linux"
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
	echo "install.sh: missing:$missing; on Debian, as root: apt-get install$missing" >&2
	exit 0
fi

# A package's script starts its service, and systemd would at each boot. Neither
# is what somebody wants who runs tests; a policy that is there already stays.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	trap 'rm -f $policy' EXIT
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod 755 $policy
fi
was_there=$(command -v dockerd || true)
install() { env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends "$@" >&2; }
# shellcheck disable=SC2086 # a list of package names
install $missing || { apt-get update --quiet >&2; install $missing; }
if [ -z "$was_there" ] && command -v systemctl >/dev/null; then
	systemctl disable --quiet docker.service docker.socket containerd.service >&2 || true
fi
