#!/usr/bin/env bash
# Runs every fuzz test of the module for the time given, 10s each by default.
set -euo pipefail
cd "$(dirname "$0")/.."
for dir in $(git ls-files --cached --others --exclude-standard '*_test.go' | xargs -r grep -l '^func Fuzz' | xargs -r -n 1 dirname | sort -u); do
	for name in $(grep -ho '^func Fuzz[A-Za-z0-9_]*' "$dir"/*_test.go | sed 's/^func //' | sort); do
		echo "== $dir $name"
		go test -run '^$' -fuzz "^$name\$" -fuzztime "${1:-10s}" "./$dir"
	done
done
