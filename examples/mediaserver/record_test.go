package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/record"
)

func TestParseKeep(t *testing.T) {
	for v, want := range map[string]record.Retention{
		"":                {},
		"720h":            {Age: 720 * time.Hour},
		"30d":             {Age: 720 * time.Hour},
		"50GB":            {Bytes: 50e9},
		"100":             {Count: 100},
		"7d, 2tb ,1000":   {Age: 168 * time.Hour, Bytes: 2e12, Count: 1000},
		"1h30m,500MB,500": {Age: 90 * time.Minute, Bytes: 500e6, Count: 500},
	} {
		got, err := parseKeep(v)
		require.NoError(t, err, v)
		require.Equal(t, want, got, v)
	}
	for _, bad := range []string{"-1", "0", "x", "10 apples", "-5h", "0GB", "99999999TB"} {
		_, err := parseKeep(bad)
		require.Error(t, err, bad)
	}
}
