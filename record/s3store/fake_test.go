package s3store

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A fake is as much of S3 as a Store needs, in memory, and fails when it is told to.
// Signatures it takes on trust: the real server in the end-to-end tests does not.
type fake struct {
	*httptest.Server

	mu      sync.Mutex
	objects map[string]object
	uploads map[string]*upload
	seq     int
	fail    func(r *http.Request) int // status of a request that fails; 0: it does not
	asked   map[string]int            // requests by kind
	sse     []string                  // X-Amz-Server-Side-Encryption of what was created
}

type object struct {
	data []byte
	etag string
	time time.Time
}

type upload struct {
	key   string
	time  time.Time
	parts map[int][]byte
}

func newFake(t testing.TB) *fake {
	f := &fake{objects: map[string]object{}, uploads: map[string]*upload{}, asked: map[string]int{}}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *fake) store() *Store {
	return &Store{Endpoint: f.Listener.Addr().String(), Plain: true, Region: "us-east-1", Bucket: "bucket", Prefix: "pre/", AccessKey: "key", SecretKey: "secret"}
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := payload(r)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		if code := f.fail(r); code != 0 {
			refuse(w, code, "InternalError")
			return
		}
	}
	if err != nil {
		refuse(w, 400, "IncompleteBody")
		return
	}
	key, ok := strings.CutPrefix(r.URL.Path, "/bucket/")
	q := r.URL.Query()
	switch {
	case !ok && r.URL.Path != "/bucket":
		refuse(w, 404, "NoSuchBucket")
	case key == "" && q.Has("uploads"):
		f.listUploads(w, q.Get("prefix"))
	case key == "":
		f.list(w, q.Get("prefix"), q.Get("continuation-token"))
	case r.Method == http.MethodPost && q.Has("uploads"):
		f.asked["begin"]++
		f.seq++
		id := strconv.Itoa(f.seq)
		f.uploads[id] = &upload{key: key, time: time.Now(), parts: map[int][]byte{}}
		f.sse = append(f.sse, r.Header.Get("X-Amz-Server-Side-Encryption"))
		answer(w, struct {
			XMLName               xml.Name `xml:"InitiateMultipartUploadResult"`
			Bucket, Key, UploadId string
		}{Bucket: "bucket", Key: key, UploadId: id})
	case q.Has("uploadId"):
		f.multipart(w, r, q.Get("uploadId"), q.Get("partNumber"), key)
	case r.Method == http.MethodPut:
		f.asked["put"]++
		f.sse = append(f.sse, r.Header.Get("X-Amz-Server-Side-Encryption"))
		o := f.put(key, body)
		w.Header().Set("ETag", o.etag)
	case r.Method == http.MethodDelete:
		delete(f.objects, key)
		w.WriteHeader(204)
	default:
		f.get(w, r, key)
	}
}

func (f *fake) put(key string, data []byte) object {
	sum := md5.Sum(data)
	o := object{data, `"` + hex.EncodeToString(sum[:]) + `"`, time.Now()}
	f.objects[key] = o
	return o
}

func (f *fake) multipart(w http.ResponseWriter, r *http.Request, id, part, key string) {
	u := f.uploads[id]
	if u == nil || u.key != key {
		refuse(w, 404, "NoSuchUpload")
		return
	}
	switch r.Method {
	case http.MethodPut:
		f.asked["part"]++
		n, _ := strconv.Atoi(part)
		body := r.Context().Value(bodyKey{}).([]byte)
		u.parts[n] = body
		sum := md5.Sum(body)
		w.Header().Set("ETag", `"`+hex.EncodeToString(sum[:])+`"`)
	case http.MethodDelete:
		f.asked["abort"]++
		delete(f.uploads, id)
		w.WriteHeader(204)
	case http.MethodPost:
		f.asked["complete"]++
		var data []byte
		for n := 1; n <= len(u.parts); n++ {
			data = append(data, u.parts[n]...)
		}
		delete(f.uploads, id)
		o := f.put(key, data)
		answer(w, struct {
			XMLName           xml.Name `xml:"CompleteMultipartUploadResult"`
			Bucket, Key, ETag string
		}{Bucket: "bucket", Key: key, ETag: o.etag})
	}
}

func (f *fake) get(w http.ResponseWriter, r *http.Request, key string) {
	o, ok := f.objects[key]
	if !ok {
		refuse(w, 404, "NoSuchKey")
		return
	}
	w.Header().Set("ETag", o.etag)
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", o.time, bytes.NewReader(o.data))
}

func (f *fake) list(w http.ResponseWriter, prefix, after string) {
	type contents struct {
		Key, ETag    string
		Size         int
		LastModified string
	}
	result := struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		IsTruncated           bool
		NextContinuationToken string
		Contents              []contents
	}{}
	var keys []string
	for k := range f.objects {
		if strings.HasPrefix(k, prefix) && k > after {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	const page = 5
	if len(keys) > page {
		keys, result.IsTruncated, result.NextContinuationToken = keys[:page], true, keys[page-1]
	}
	for _, k := range keys {
		o := f.objects[k]
		result.Contents = append(result.Contents, contents{k, o.etag, len(o.data), o.time.UTC().Format("2006-01-02T15:04:05.000Z")})
	}
	answer(w, result)
}

func (f *fake) listUploads(w http.ResponseWriter, prefix string) {
	type item struct {
		Key, UploadId string
		Initiated     string
	}
	result := struct {
		XMLName xml.Name `xml:"ListMultipartUploadsResult"`
		Upload  []item
	}{}
	for id, u := range f.uploads {
		if strings.HasPrefix(u.key, prefix) {
			result.Upload = append(result.Upload, item{u.key, id, u.time.UTC().Format("2006-01-02T15:04:05.000Z")})
		}
	}
	slices.SortFunc(result.Upload, func(a, b item) int { return cmp.Compare(a.Key, b.Key) })
	answer(w, result)
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/xml")
	_ = xml.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, code int, name string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(code)
	fmt.Fprintf(w, "<Error><Code>%s</Code></Error>", name)
}

type bodyKey struct{}

// payload reads a body, out of the signed chunks that it comes in over plain HTTP,
// and keeps it in the request.
func payload(r *http.Request) ([]byte, error) {
	var out []byte
	var err error
	if !strings.HasPrefix(r.Header.Get("X-Amz-Content-Sha256"), "STREAMING") {
		out, err = io.ReadAll(r.Body)
	} else {
		br := bufio.NewReader(r.Body)
		for err == nil {
			var line string
			if line, err = br.ReadString('\n'); err != nil {
				break
			}
			size, _, _ := strings.Cut(strings.TrimSpace(line), ";")
			var n int64
			if n, err = strconv.ParseInt(size, 16, 64); err != nil || n == 0 {
				break
			}
			chunk := make([]byte, n+2)
			_, err = io.ReadFull(br, chunk)
			out = append(out, chunk[:n]...)
		}
		_, _ = io.Copy(io.Discard, br)
	}
	*r = *r.WithContext(context.WithValue(r.Context(), bodyKey{}, out))
	return out, err
}
