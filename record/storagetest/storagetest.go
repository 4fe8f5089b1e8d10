// Package storagetest checks that a stream.Storage keeps its promises. A driver
// calls Run in a test of its own.
package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// Run checks the storages that open returns, each of which is empty and used by
// one subtest.
func Run(t *testing.T, open func(t *testing.T) stream.Storage) {
	for _, test := range []struct {
		name string
		run  func(*suite)
	}{
		{"CreateAndOpen", (*suite).createAndOpen},
		{"Atomic", (*suite).atomic},
		{"Replace", (*suite).replace},
		{"Abort", (*suite).abort},
		{"Names", (*suite).names},
		{"List", (*suite).list},
		{"Remove", (*suite).remove},
		{"Context", (*suite).context},
		{"Concurrent", (*suite).concurrent},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(&suite{t, open(t)}) })
	}
}

type suite struct {
	*testing.T
	s stream.Storage
}

func (t *suite) ok(err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (t *suite) is(err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}

func (t *suite) equal(got, want any) {
	t.Helper()
	if g, w := fmt.Sprintf("%v", got), fmt.Sprintf("%v", want); g != w {
		t.Fatalf("got %.200s, want %.200s", g, w)
	}
}

func (t *suite) put(name, content string) {
	t.Helper()
	w, err := t.s.Create(t.Context(), name)
	t.ok(err)
	defer w.Abort()
	_, err = io.WriteString(w, content)
	t.ok(err)
	t.ok(w.Close())
}

func (t *suite) get(name string) string {
	t.Helper()
	r, err := t.s.Open(t.Context(), name)
	t.ok(err)
	defer r.Close()
	b, err := io.ReadAll(r)
	t.ok(err)
	t.equal(r.Info().Size, len(b))
	t.equal(r.Info().Name, name)
	return string(b)
}

func (t *suite) missing(name string) {
	t.Helper()
	r, err := t.s.Open(t.Context(), name)
	if err == nil {
		r.Close()
	}
	t.is(err, fs.ErrNotExist)
}

func (t *suite) listed(prefix string) (names []string) {
	t.Helper()
	for info, err := range t.s.List(t.Context(), prefix) {
		t.ok(err)
		names = append(names, info.Name)
	}
	return names
}

func (t *suite) createAndOpen() {
	t.put("live/a/v1.m4s", "one")
	t.put("empty", "")
	large := strings.Repeat("0123456789", 1<<20/10)
	t.put("live/large", large)
	t.equal(t.get("live/a/v1.m4s"), "one")
	t.equal(t.get("empty"), "")
	t.equal(len(t.get("live/large")), len(large))

	r, err := t.s.Open(t.Context(), "live/large")
	t.ok(err)
	defer r.Close()
	if age := time.Since(r.Info().ModTime); age < -time.Minute || age > time.Hour {
		t.Fatalf("it was closed %v ago", age)
	}
	for _, at := range []int64{100_003, 7, int64(len(large)) - 5} {
		n, err := r.Seek(at, io.SeekStart)
		t.ok(err)
		t.equal(n, at)
		var b [5]byte
		_, err = io.ReadFull(r, b[:])
		t.ok(err)
		t.equal(string(b[:]), large[at:at+5])
	}
	_, err = r.Read(make([]byte, 1))
	t.is(err, io.EOF)
	end, err := r.Seek(0, io.SeekEnd)
	t.ok(err)
	t.equal(end, len(large))
}

func (t *suite) atomic() {
	w, err := t.s.Create(t.Context(), "a/b")
	t.ok(err)
	defer w.Abort()
	_, err = io.WriteString(w, "half")
	t.ok(err)
	t.missing("a/b")
	t.equal(t.listed(""), []string(nil))
	_, err = io.WriteString(w, " and half")
	t.ok(err)
	t.ok(w.Close())
	t.equal(t.get("a/b"), "half and half")
	if w.Close() == nil {
		t.Fatal("closed twice")
	}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Fatal("written after Close")
	}
	t.ok(w.Abort())
	t.equal(t.get("a/b"), "half and half")
}

func (t *suite) replace() {
	t.put("list.m3u8", "old")
	old, err := t.s.Open(t.Context(), "list.m3u8")
	t.ok(err)
	defer old.Close()
	t.put("list.m3u8", "newer")
	t.equal(t.get("list.m3u8"), "newer")
	b, err := io.ReadAll(old)
	t.ok(err)
	t.equal(string(b), "old")
	t.equal(t.listed(""), []string{"list.m3u8"})
}

func (t *suite) abort() {
	t.put("kept", "kept")
	for _, name := range []string{"kept", "none", "deep/er/none"} {
		w, err := t.s.Create(t.Context(), name)
		t.ok(err)
		_, err = io.WriteString(w, "lost")
		t.ok(err)
		t.ok(w.Abort())
		t.ok(w.Abort())
		if w.Close() == nil {
			t.Fatal("closed after Abort")
		}
	}
	t.equal(t.get("kept"), "kept")
	t.missing("none")
	t.missing("deep/er/none")
	t.equal(t.listed(""), []string{"kept"})
}

func (t *suite) names() {
	t.put("a/b", "")
	good := []string{"live/Ünï-codé", "live/with space", "live/a.b_c-d+e=f,g@h'i", strings.Repeat("x", 255), "d1/d2/d3/d4/d5/f"}
	for _, name := range good {
		t.put(name, name)
		t.equal(t.get(name), name)
	}
	for _, name := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", ".hidden", "a/.b", "_a", "a/_b", `a\b`, "a\x00b", "a\nb",
		"a:b", "a*b", "a?b", `a"b`, "a<b", "a|b", "a%b", "a ", " a", "a\xff", strings.Repeat("x", 256), strings.Repeat("x/", 600) + "x",
	} {
		w, err := t.s.Create(t.Context(), name)
		if err == nil {
			w.Abort()
		}
		t.is(err, stream.ErrName)
		r, err := t.s.Open(t.Context(), name)
		if err == nil {
			r.Close()
		}
		t.is(err, stream.ErrName)
		t.is(t.s.Remove(t.Context(), name), stream.ErrName)
	}
	for _, prefix := range []string{"..", "a/../", "/", "a//"} {
		for _, err := range t.s.List(t.Context(), prefix) {
			t.is(err, stream.ErrName)
		}
	}
	for _, name := range []string{"none", "a", "a/none", "a/b/c", "none/none"} {
		t.missing(name)
		t.is(t.s.Remove(t.Context(), name), fs.ErrNotExist)
	}
}

func (t *suite) list() {
	t.equal(t.listed(""), []string(nil))
	all := []string{"a", "live-x/1", "live/a/1", "live/a/10", "live/a/2", "live/a.m3u8", "live/ab/1", "live/b", "z/z/z"}
	slices.Sort(all)
	for i := range all {
		t.put(all[len(all)-1-i], strings.Repeat("x", i))
	}
	begins := func(prefix string) (names []string) {
		for _, name := range all {
			if strings.HasPrefix(name, prefix) {
				names = append(names, name)
			}
		}
		return names
	}
	for _, prefix := range []string{"", "live", "live/", "live/a", "live/a/", "live/a/1", "live/a/1/", "z", "z/z/z", "none", "none/none/"} {
		t.equal(t.listed(prefix), begins(prefix))
	}
	for info, err := range t.s.List(t.Context(), "z") {
		t.ok(err)
		t.equal(info.Size, 0)
		if age := time.Since(info.ModTime); age < -time.Minute || age > time.Hour {
			t.Fatalf("it was closed %v ago", age)
		}
	}
	for range t.s.List(t.Context(), "") {
		break
	}
}

func (t *suite) remove() {
	t.put("live/a/1", "one")
	t.put("live/a/2", "two")
	open, err := t.s.Open(t.Context(), "live/a/1")
	t.ok(err)
	defer open.Close()
	t.ok(t.s.Remove(t.Context(), "live/a/1"))
	t.missing("live/a/1")
	t.is(t.s.Remove(t.Context(), "live/a/1"), fs.ErrNotExist)
	b, err := io.ReadAll(open)
	t.ok(err)
	t.equal(string(b), "one")
	t.equal(t.listed(""), []string{"live/a/2"})
	t.ok(t.s.Remove(t.Context(), "live/a/2"))
	t.equal(t.listed(""), []string(nil))
	t.put("live", "a file where a directory was")
	t.equal(t.get("live"), "a file where a directory was")
}

func (t *suite) context() {
	t.put("there", "there")
	over, cancel := context.WithCancel(t.Context())
	w, err := t.s.Create(over, "half")
	t.ok(err)
	_, err = io.WriteString(w, "half")
	t.ok(err)
	r, err := t.s.Open(over, "there")
	t.ok(err)
	defer r.Close()
	cancel()
	_, err = w.Write(bytes.Repeat([]byte("x"), 16<<20)) // more than a driver may keep to itself
	if err == nil {
		err = w.Close()
	}
	t.is(err, context.Canceled)
	_ = w.Abort()
	t.missing("half")
	_, err = r.Read(make([]byte, 1))
	t.is(err, context.Canceled)

	_, err = t.s.Create(over, "a")
	t.is(err, context.Canceled)
	_, err = t.s.Open(over, "there")
	t.is(err, context.Canceled)
	t.is(t.s.Remove(over, "there"), context.Canceled)
	for _, err := range t.s.List(over, "") {
		t.is(err, context.Canceled)
	}
	t.equal(t.get("there"), "there")
}

func (t *suite) concurrent() {
	const writers, rounds = 8, 20
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			own := fmt.Sprintf("own/%d/file", i)
			for n := range rounds {
				for _, name := range []string{"shared/file", own} {
					w, err := t.s.Create(t.Context(), name)
					if err != nil {
						t.Error(err)
						return
					}
					for range 3 { // in pieces, which must not mix
						_, _ = fmt.Fprintf(w, "%d ", i)
					}
					if err := w.Close(); err != nil {
						t.Error(err)
						return
					}
				}
				r, err := t.s.Open(t.Context(), "shared/file")
				if err != nil {
					t.Error(err)
					return
				}
				b, err := io.ReadAll(r)
				r.Close()
				if words := strings.Fields(string(b)); err != nil || len(words) != 3 || words[0] != words[2] {
					t.Errorf("%q, %v", b, err)
					return
				}
				if n%2 == 1 {
					if err := t.s.Remove(t.Context(), own); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	t.equal(t.listed(""), []string{"shared/file"})
}
