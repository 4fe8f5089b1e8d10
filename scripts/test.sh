#!/usr/bin/env bash
# What "make test" runs: every check of the repository, step by step, each
# with its time. The first that fails ends it.
#
#   scripts/test.sh          all of them
#   scripts/test.sh NAME...  the named ones, such as "vet" or "race"
set -euo pipefail
cd "$(dirname "$0")/.."

# Packages that drive foreign programs, and those that link a heavy driver. They
# are tested, but not once more under the race detector or another system's vet.
peers='/internal/(e2e|bench)(/|$)'
drivers='/auth/sqlauth(/|$)|/examples/turn(admin|server)$'

steps=(peers fmt tidy vet cross unit race vuln)

light() { go list ./... | grep -Ev "$peers|$drivers"; }

peers() { scripts/install-peers.sh; }

fmt() {
	local files
	files=$(gofmt -l .)
	[ -z "$files" ] || { echo "not formatted (make fmt):"; echo "$files"; return 1; }
}

tidy() {
	local out
	out=$(go mod tidy -diff 2>&1) || { head -n 30 <<<"$out"; echo "… run: go mod tidy"; return 1; }
}

vet() { go vet ./...; }

cross() {
	local os
	for os in darwin windows; do
		echo "GOOS=$os"
		light | GOOS=$os CGO_ENABLED=0 xargs go vet
	done
}

# Everything once, real peers included.
#
# Those with the real peers run by themselves: a browser that plays live media
# needs the processors.
unit() {
	local packages
	packages=$(go list ./... | grep -Ev "$peers")
	export RUNNEL_E2E=1
	# shellcheck disable=SC2086
	tests -timeout 6m $packages
	tests -timeout 6m -p 1 ./internal/e2e/... ./internal/bench/...
}

# The unit tests under the race detector, in a network of their own that has
# nothing but loopback: they must need no more.
race() {
	local packages
	packages=$(light)
	if alone true 2>/dev/null; then
		export GOPROXY=off
		go=(alone go)
	else
		echo "(no network namespace to be had here: with the machine's network)"
	fi
	# shellcheck disable=SC2086
	tests -race $packages
}

go=(go) # what tests runs

# tests is "go test" of the flags and packages given. What fails is run once
# more by itself, unless it is more than three packages, a panic, or does not
# build. What passes then hangs on how busy the machine was: the step
# goes on, and the end of the run names the test, for it is a bug.
tests() {
	local out failed flags=() package names
	out=$(mktemp)
	if "${go[@]}" test "$@" 2>&1 | tee "$out"; then
		rm "$out"
		return
	fi
	# A package's tests come before its own line: "package TestA|TestB", no
	# tests where it died without naming one.
	failed=$(awk '/^--- FAIL: / { names = names (names ? "|" : "") $3 }
		/^(ok|FAIL)\t/ { if ($1 == "FAIL") print $2, names; names = "" }' "$out")
	if [ -z "$failed" ] || [ "$(wc -l <<<"$failed")" -gt 3 ] ||
		grep -Eq '^FAIL.*\[(build|setup) failed\]' "$out" ||
		grep '^panic: ' "$out" | grep -qv '^panic: test timed out'; then
		return 1
	fi
	rm "$out"
	while [ "${1:0:1}" = - ]; do
		flags+=("$1")
		case $1 in -timeout | -p) flags+=("$2"); shift ;; esac
		shift
	done
	while read -r package names; do
		printf '\n-- once more, alone: %s %s\n' "$package" "$names"
		"${go[@]}" test "${flags[@]}" -count=1 ${names:+-run "^($names)\$"} "$package" </dev/null || return 1
		echo "$package $names" >>"$unsteady"
	done <<<"$failed"
}

# alone runs a command in a new network namespace with loopback only.
alone() {
	local user=()
	[ "$(id -u)" = 0 ] || user=(--map-root-user)
	# shellcheck disable=SC2016
	unshare "${user[@]}" --net sh -c 'PATH=$PATH:/usr/sbin:/sbin ip link set lo up && exec "$@"' sh "$@"
}

# Known vulnerabilities, where the database answers. Only a finding fails;
# "go run" tells the program's exit status, 3 for a finding, in words.
vuln() {
	local out
	if out=$(timeout 180 go run golang.org/x/vuln/cmd/govulncheck@v1.8.0 ./... 2>&1); then
		echo "no known vulnerability is reachable"
	elif grep -qx 'exit status 3' <<<"$out"; then
		echo "$out"
		return 1
	else
		echo "skipped: govulncheck or its database can't be had here"
		grep -v '^exit status\|^go: downloading' <<<"$out" | tail -n 1 | cut -c1-200
	fi
}

[ $# -eq 0 ] || steps=("$@")
times=()
unsteady=$(mktemp)
trap 'rm -f "$unsteady"' EXIT
for step in "${steps[@]}"; do
	printf '\n== %s\n' "$step"
	SECONDS=0
	# In a shell of its own: "set -e" holds inside, which it would not in an if.
	set +e
	(set -e; "$step")
	status=$?
	set -e
	times+=("$(printf '%-6s %4d s' "$step" $SECONDS)")
	if [ $status -ne 0 ]; then
		printf '\n== %s FAILED after %d s. Again, alone: scripts/test.sh %s\n' "$step" $SECONDS "$step"
		exit 1
	fi
done
printf '\n== all passed\n'
printf '%s\n' "${times[@]}"
if [ -s "$unsteady" ]; then
	printf '\n== UNSTEADY: these failed once and passed alone. Each is a bug to be mended:\n'
	cat "$unsteady"
fi
