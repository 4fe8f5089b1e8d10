package sqlite_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth/sqlauth/sqlite"
	"github.com/runnel-media/runnel/auth/turnauth"
)

// TestFile: whatever a file is called, it is that file.
func TestFile(t *testing.T) {
	names := []string{"turndb", "a b", "%41", "a%20b", "a#b", "a&b=c;d"}
	if runtime.GOOS != "windows" {
		names = append(names, "we?ird", "a?mode=memory", `a"b`, "a'b", "file:x", ":memory:")
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, name)
			gone, err := sqlite.Open(file)
			require.NoError(t, err)
			defer gone.Close()
			require.Error(t, gone.Ping(t.Context()), "Open makes no file")
			require.NoFileExists(t, file)

			db, err := sqlite.Create("sqlite://" + file)
			require.NoError(t, err)
			require.NoError(t, db.Create(t.Context()))
			require.NoError(t, db.Close())
			again, err := sqlite.Open(file)
			require.NoError(t, err)
			require.NoError(t, again.Ping(t.Context()))
			require.NoError(t, again.Close())

			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Len(t, entries, 1)
			require.Equal(t, name, entries[0].Name())
			info, err := entries[0].Info()
			require.NoError(t, err)
			if runtime.GOOS != "windows" {
				require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
			}
		})
	}
	for _, bad := range []string{"", "sqlite://", "a\x00b"} {
		_, err := sqlite.Create(bad)
		require.Error(t, err)
	}
	_, err := sqlite.Create(filepath.Join(t.TempDir(), "no", "folder"))
	require.Error(t, err)
}

// TestTwoWriters: who writes while another does waits for it.
func TestTwoWriters(t *testing.T) {
	file := filepath.Join(t.TempDir(), "turndb")
	done := make(chan error)
	for i := range 2 {
		db, err := sqlite.Create(file)
		require.NoError(t, err)
		defer db.Close()
		require.NoError(t, db.Create(t.Context()))
		go func() {
			var err error
			for n := 0; n < 50 && err == nil; n++ {
				err = db.Put(t.Context(), turnauth.SecretTable, turnauth.Row{Realm: "r", Name: fmt.Sprint(i, n)})
			}
			done <- err
		}()
	}
	require.NoError(t, <-done)
	require.NoError(t, <-done)
}

func ExampleCreate() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	db, err := sqlite.Create(filepath.Join(dir, "turndb"))
	if err != nil {
		panic(err)
	}
	defer db.Close()
	ctx := context.Background()
	if err := db.Create(ctx); err != nil {
		panic(err)
	}
	key := turnauth.Key("gorst", "north.gov", "hero")
	err = db.Put(ctx, turnauth.UserTable, turnauth.Row{Realm: "north.gov", Name: "gorst", Value: hex.EncodeToString(key)})
	if err != nil {
		panic(err)
	}
	for r, err := range db.Rows(ctx, turnauth.UserTable, "") {
		fmt.Println(r.Realm, r.Name, r.Value, err)
	}
	// Output: north.gov gorst 7da2270ccfa49786e0115366d3a3d14d <nil>
}
