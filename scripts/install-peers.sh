#!/usr/bin/env bash
# Installs the programs that the end-to-end tests and the benchmarks talk to,
# where they are missing. It may be run again at any time; with everything in
# place it is done at once and asks no network.
set -euo pipefail

# command:Debian package. A command that the package does not put into the
# search path is given as a file, with * where a version is.
peers=(
	ffmpeg:ffmpeg
	ffprobe:ffmpeg
	chromium:chromium
	firefox-esr:firefox-esr
	/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf:fonts-dejavu-core
	nginx:nginx
	turnutils_uclient:coturn
	turnadmin:coturn
	/usr/share/coturn/schema.sql:coturn
	/usr/sbin/mariadbd:mariadb-server
	mariadb-install-db:mariadb-server
	/usr/lib/postgresql/*/bin/postgres:postgresql
	redis-server:redis-server
	promtool:prometheus
	setpriv:util-linux
	srt-live-transmit:srt-tools
	gst-launch-1.0:gstreamer1.0-tools
	/usr/lib/*/gstreamer-1.0/libgstsrt.so:gstreamer1.0-plugins-bad
	/usr/lib/nginx/modules/ngx_rtmp_module.so:libnginx-mod-rtmp
	gcc:gcc
	/usr/include/stdio.h:libc6-dev
	ip:iproute2
	nft:nftables
	npm:npm
	unshare:util-linux
)
# Packages of npm, exact versions. Only their files are used, in a browser, so
# neither their dependencies nor their scripts are installed.
modules=(
	mpegts.js@1.8.2
	hls.js@1.7.4
	dashjs@5.2.1
)
# Programs built from Go modules that are not ours: an S3 server. Some minutes, once.
programs=(
	github.com/versity/versitygw/cmd/versitygw@v1.8.0
)
# internal/e2e/peer looks here too.
cache=${RUNNEL_PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/runnel-peers}

say() { printf 'peers: %s\n' "$*"; }

have() { # command or file
	case $1 in
	/*) compgen -G "$1" >/dev/null ;;
	*) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null ;;
	esac
}

missing=()
for p in "${peers[@]}"; do
	have "${p%%:*}" || missing+=("${p#*:}")
done

if [ ${#missing[@]} -gt 0 ]; then
	mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
	say "missing: ${missing[*]}"
	if [ "$(uname -s)" != Linux ] || ! command -v apt-get >/dev/null; then
		say "there is no apt-get here. Install what these Debian packages hold by your system's own means,"
		say "for example: brew install ffmpeg chromium. What stays missing is skipped by go test ./...,"
		say "but fails under RUNNEL_E2E=1, which make test sets."
	else
		root=()
		if [ "$(id -u)" != 0 ]; then
			command -v sudo >/dev/null || { say "not root and no sudo: run apt-get install ${missing[*]}"; exit 1; }
			root=(sudo)
		fi
		# The tests start servers of their own: none of these packages needs its
		# service running, and port 80 may be somebody else's.
		policy=/usr/sbin/policy-rc.d
		if [ ! -e $policy ]; then
			printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee $policy >/dev/null
			"${root[@]}" chmod 755 $policy
			trap '"${root[@]}" rm -f $policy' EXIT
		fi
		apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0)
		"${apt[@]}" update </dev/null
		"${apt[@]}" install -y --no-install-recommends "${missing[@]}" </dev/null
	fi
fi

for m in "${modules[@]}"; do
	name=${m%@*} version=${m##*@}
	dir=$cache/node_modules/$name
	if grep -qs "\"version\": *\"$version\"" "$dir/package.json"; then
		continue
	fi
	if ! command -v npm >/dev/null; then
		say "no npm: install Node.js, or unpack $m into $dir"
		continue
	fi
	say "unpacking $m into $dir"
	mkdir -p "$cache/node_modules"
	tmp=$(mktemp -d "$cache/XXXXXX")
	(cd "$tmp" && npm pack --loglevel=error "$m" </dev/null >/dev/null && tar -xzf ./*.tgz) ||
		{ say "npm can't fetch $m"; rm -rf "$tmp"; exit 1; }
	rm -rf "$dir"
	mkdir -p "$(dirname "$dir")"
	mv "$tmp/package" "$dir"
	rm -rf "$tmp"
done

for p in "${programs[@]}"; do
	name=${p%@*} name=${name##*/}
	stamp=$cache/bin/$name.version
	if [ -x "$cache/bin/$name" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$p" ]; then
		continue
	fi
	say "building $p"
	mkdir -p "$cache/bin"
	(cd "$cache" && GOFLAGS='' GOBIN=$cache/bin go install "$p") || { say "go can't build $p"; exit 1; }
	printf '%s' "$p" >"$stamp"
done
