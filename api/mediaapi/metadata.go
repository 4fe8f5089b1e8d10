package mediaapi

import (
	"math"
	"unicode/utf8"
)

// What of a publisher's metadata is shown.
const (
	maxMetadata      = 500 // values, of all depths together
	maxMetadataDepth = 6
	maxMetadataText  = 1000 // bytes of one text
)

// presentable copies what a peer said as JSON can say it, within bounds: there
// are no NaN and no infinity in JSON.
func presentable(v any, depth int, left *int) any {
	if *left--; *left < 0 || depth > maxMetadataDepth {
		return nil
	}
	switch v := v.(type) {
	case bool:
		return v
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil
		}
		return v
	case string:
		return cut(v)
	case []any:
		list := []any{}
		for _, e := range v {
			if *left <= 0 {
				break
			}
			list = append(list, presentable(e, depth+1, left))
		}
		return list
	case map[string]any:
		if v == nil {
			return nil
		}
		m := map[string]any{}
		for _, key := range sortedKeys(v) {
			if *left <= 0 {
				break
			}
			m[cut(key)] = presentable(v[key], depth+1, left)
		}
		return m
	}
	return nil
}

func cut(s string) string {
	if len(s) <= maxMetadataText {
		return s
	}
	n := maxMetadataText
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
