#!/usr/bin/awk -f
# Sums a coverage profile by package. Blocks that several test binaries report
# count once.
NR == 1 { next }
{
	split($1, at, ":")
	pkg = at[1]
	sub(/\/[^\/]*$/, "", pkg)
	if (!($1 in seen)) {
		seen[$1]
		all[pkg] += $2
		total += $2
	}
	if ($3 > 0 && !($1 in hit)) {
		hit[$1]
		run[pkg] += $2
		covered += $2
	}
}
END {
	for (p in all) printf "%5.1f %%  %s\n", 100 * run[p] / all[p], p | "sort -k 3"
	close("sort -k 3")
	if (total) printf "%5.1f %%  all\n", 100 * covered / total
}
