#!/bin/sh
# Downloads one Debian package and unpacks it, without root and without installing anything.
#
#   debian_package.sh PACKAGE SUITE DIRECTORY
#
# SUITE is the name of a suite (trixie, ...) or "current" for the machine's own. Mirrors and keys are
# the machine's; lists and downloads lie in a private folder, so the system's apt state stays as it is.
set -eu

package=$1
suite=$2
directory=$3

command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || {
  echo "apt-get and dpkg-deb are needed" >&2
  exit 1
}
current=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
[ -n "$current" ] || { echo "this is no released Debian or Ubuntu" >&2; exit 1; }
[ "$suite" = current ] && suite=$current

private=$(mktemp -d)
trap 'rm -rf "$private"' EXIT
mkdir -p "$private/parts" "$private/lists/partial" "$private/cache/archives/partial"
for source in /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list; do
  [ -f "$source" ] && grep -q "\b$current\b" "$source" || continue
  sed "s/\b$current\b/$suite/g" "$source" >"$private/parts/$(basename "$source")"
  case $source in */sources.list) mv "$private/parts/sources.list" "$private/parts/main.list" ;; esac
done

apt() {
  apt-get -q -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$private/parts" \
    -o Dir::State::Lists="$private/lists" -o Dir::Cache="$private/cache" \
    -o APT::Sandbox::User= -o Debug::NoLocking=1 "$@"
}
apt update
(cd "$private" && apt download "$package")
dpkg-deb -x "$private"/"$package"_*.deb "$private/unpacked"

# Moved into place whole, so that an interrupted run leaves nothing that looks complete.
mkdir -p "$(dirname "$directory")"
rm -rf "$directory"
mv "$private/unpacked" "$directory"
