package transcode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
)

// An Image is a format of pictures.
type Image uint8

// The formats.
const (
	JPEG Image = iota
	PNG
	WebP
)

var images = [...]struct {
	name, extension, mediaType string
	args                       []string
}{
	JPEG: {"jpeg", ".jpg", "image/jpeg", []string{"-c:v", "mjpeg", "-q:v", "4"}},
	PNG:  {"png", ".png", "image/png", []string{"-c:v", "png"}},
	WebP: {"webp", ".webp", "image/webp", []string{"-c:v", "libwebp", "-q:v", "75"}},
}

// String returns "jpeg", "png" or "webp".
func (i Image) String() string {
	if int(i) < len(images) {
		return images[i].name
	}
	return fmt.Sprintf("Image(%d)", uint8(i))
}

// MarshalText returns what String returns.
func (i Image) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// UnmarshalText accepts what MarshalText returns.
func (i *Image) UnmarshalText(text []byte) error {
	for n := range images {
		if images[n].name == string(text) {
			*i = Image(n)
			return nil
		}
	}
	return errors.New("transcode: a picture is jpeg, png or webp")
}

// MediaType returns the format's media type, such as "image/jpeg".
func (i Image) MediaType() string { return images[i].mediaType }

// A Picture is a still of a live stream. It is shared, and not to be modified.
type Picture struct {
	Stream string
	Image  Image
	Data   []byte
	Time   time.Time     // of the frame: at capture if the publisher knows it, else at arrival
	PTS    time.Duration // of the frame
}

// A Snapshot makes pictures of live streams: each is the newest key frame, the only one
// that ffmpeg is given. As an http.Handler it answers
//
//	GET /live/cam.jpg, .png or .webp
//
// A picture is kept until its stream ends and made again, on request, when it is older
// than Every and there is a newer key frame. Set the fields before first use; all
// methods may be called from many goroutines at once.
type Snapshot struct {
	Hub    *stream.Hub
	Log    *slog.Logger    // nil: slog.Default()
	Auth   auth.Authorizer // asked for auth.Play by ServeHTTP; nil refuses everybody
	FFmpeg FFmpeg          // a run may take 10 s on the clock and 10 s of CPU time if Limits do not say

	// Width and Height bound the size. 0: as the other one and the shape of the
	// stream have it; both 0: the stream's size.
	Width, Height int

	Every time.Duration // 0: 10 s

	// Match chooses the streams that Run makes pictures of, in the format Image,
	// whether anybody asks or not. OnPicture is told of each, for who stores them;
	// it is called by one goroutine at a time.
	Match     func(streamName string) bool
	Image     Image
	OnPicture func(*Picture)

	MaxRuns int // how many ffmpegs run at once; 0: 2. Others wait

	encode func(context.Context, *stream.Frame, Image) ([]byte, error) // in tests; nil: ffmpeg

	mu    sync.Mutex
	kept  map[shot]*still
	slots chan struct{} // of runs
}

// A shot is what is kept a picture of.
type shot struct {
	stream *stream.Stream
	image  Image
}

// A still is the newest picture of a shot.
type still struct {
	picture *Picture // nil: there has been none
	err     error    // of the last try
	made    time.Time
	making  chan struct{} // closed when the try that runs is over; nil: none runs
}

const (
	// snapshotTime is how long one picture may take.
	snapshotTime = 10 * time.Second
	// maxImage bounds what ffmpeg may make of one frame.
	maxImage = 64 << 20
	// retryImage is when to try again after a failure.
	retryImage = time.Second
)

func (s *Snapshot) every() time.Duration { return cmp.Or(s.Every, 10*time.Second) }

// Run makes pictures of the streams that Match chooses, every so often, until ctx ends,
// whose error it returns.
func (s *Snapshot) Run(ctx context.Context) error {
	ticker := time.NewTicker(s.every())
	defer ticker.Stop()
	told := make(map[*stream.Stream]*Picture)
	for {
		s.round(ctx, told)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// round makes a picture of each stream, several at once, and tells of those that are
// new.
func (s *Snapshot) round(ctx context.Context, told map[*stream.Stream]*Picture) {
	var making sync.WaitGroup
	var mu sync.Mutex
	live := make(map[*stream.Stream]bool)
	for st := range s.Hub.Streams() {
		if s.Match == nil || !s.Match(st.Name()) {
			continue
		}
		live[st] = true
		making.Go(func() {
			// One that was made late in the last round is made anew all the same.
			p, err := s.younger(ctx, st.Name(), s.Image, s.every()/2, true)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				if ctx.Err() == nil && !errors.Is(err, stream.ErrNotFound) && !errors.Is(err, stream.ErrUnsupported) {
					logger(s.Log).Warn("transcode: picture", "stream", st.Name(), "err", err)
				}
			case told[st] != p:
				told[st] = p
				if s.OnPicture != nil {
					s.OnPicture(p)
				}
			}
		})
	}
	making.Wait()
	for st := range told {
		if !live[st] {
			delete(told, st)
		}
	}
}

// Picture returns the newest picture of a live stream. It may have been made some time
// ago, see Every, and is made now if there is none yet; when all runs are taken, one
// that is too old will do. The error wraps stream.ErrNotFound if the stream is not live
// or has had no key frame yet, and stream.ErrUnsupported if it has no video.
func (s *Snapshot) Picture(ctx context.Context, name string, image Image) (*Picture, error) {
	return s.younger(ctx, name, image, s.every(), false)
}

// younger returns a picture that was made no longer ago than so, if need be after
// waiting for a run.
func (s *Snapshot) younger(ctx context.Context, name string, image Image, than time.Duration, patient bool) (*Picture, error) {
	if int(image) >= len(images) {
		return nil, fmt.Errorf("transcode: %v", image)
	}
	st := s.Hub.Stream(name)
	if st == nil {
		return nil, stream.ErrNotFound
	}
	k, wait := s.look(shot{st, image}, than, patient)
	select {
	case <-wait:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if k.err != nil {
		return nil, k.err
	}
	return k.picture, nil
}

// over is a wait for nothing.
var over = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// look returns what there is of a shot, and what to wait for before it is read.
func (s *Snapshot) look(at shot, than time.Duration, patient bool) (*still, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept == nil {
		s.kept = make(map[shot]*still)
		s.slots = make(chan struct{}, max(1, cmp.Or(s.MaxRuns, 2)))
	}
	k := s.kept[at]
	if k == nil {
		for old := range s.kept { // what has ended is kept no longer
			if s.Hub.Stream(old.stream.Name()) != old.stream {
				delete(s.kept, old)
			}
		}
		k = &still{}
		s.kept[at] = k
	}
	age := time.Since(k.made)
	switch {
	case k.making != nil && k.picture == nil:
		return k, k.making
	case k.making != nil: // the one before will do
	case k.err != nil && age < retryImage:
	case k.err == nil && k.picture != nil && (age < than || !patient && len(s.slots) == cap(s.slots)):
	default:
		k.making = make(chan struct{})
		go s.make(at, k, k.picture)
		return k, k.making
	}
	return k, over
}

// make makes the picture of a shot, for whoever waits for it.
func (s *Snapshot) make(at shot, k *still, old *Picture) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*snapshotTime)
	defer cancel()
	picture, err := s.picture(ctx, at, old)
	s.mu.Lock()
	defer s.mu.Unlock()
	if k.err, k.made = err, time.Now(); err == nil {
		k.picture = picture
	}
	close(k.making)
	k.making = nil
}

func (s *Snapshot) picture(ctx context.Context, at shot, old *Picture) (*Picture, error) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	f, err := s.newest(ctx, at.stream)
	if err != nil {
		return nil, err
	}
	if old != nil && old.PTS == f.PTS {
		return old, nil
	}
	encode := s.encode
	if encode == nil {
		encode = s.ffmpeg
	}
	data, err := encode(ctx, f, at.image)
	if err != nil {
		return nil, err
	}
	return &Picture{Stream: at.stream.Name(), Image: at.image, Data: data, Time: f.Time, PTS: f.PTS}, nil
}

// keyWait is how long a stream that keeps none may take to send a key frame.
const keyWait = 5 * time.Second

// newest returns the newest key frame of a stream.
func (s *Snapshot) newest(ctx context.Context, st *stream.Stream) (*stream.Frame, error) {
	if tracks := st.Tracks(); len(tracks) > 0 && videoOf(tracks) == nil {
		return nil, fmt.Errorf("%w: no video", stream.ErrUnsupported)
	}
	ctx, cancel := context.WithTimeout(ctx, keyWait)
	defer cancel()
	sub, err := s.Hub.Subscribe(ctx, st.Name(), nil)
	if err != nil {
		return nil, err
	}
	defer sub.Close()
	for f, err := range sub.Frames(ctx) {
		if err != nil {
			return nil, fmt.Errorf("%w: no key frame: %w", stream.ErrNotFound, err)
		}
		if f.Key && f.Track.Kind() == stream.Video {
			return f, nil
		}
	}
	return nil, stream.ErrNotFound
}

// ffmpeg makes a picture of one key frame.
func (s *Snapshot) ffmpeg(ctx context.Context, f *stream.Frame, image Image) ([]byte, error) {
	in, err := newFeed(f.Track, nil, f.DTS)
	if err != nil {
		return nil, err
	}
	width, height := -2, -2
	if s.Width > 0 {
		width = s.Width
	}
	if s.Height > 0 {
		height = s.Height
	}
	args := append(s.FFmpeg.fed(in), "-map", "0:v:0", "-frames:v", "1")
	if s.Width > 0 && s.Height > 0 {
		args = append(args, "-vf", fmt.Sprintf("scale=w=%d:h=%d:force_original_aspect_ratio=decrease", width, height))
	} else if s.Width > 0 || s.Height > 0 {
		args = append(args, "-vf", fmt.Sprintf("scale=w=%d:h=%d", width, height))
	}
	args = append(append(args, images[image].args...), "-f", "image2pipe", pipeName(0))
	cmd := s.FFmpeg.command(args...)
	cmd.feed, cmd.outputs = true, 1
	cmd.limits.Time = cmp.Or(cmd.limits.Time, snapshotTime)
	cmd.limits.CPU = cmp.Or(cmd.limits.CPU, snapshotTime)
	p, err := cmd.start()
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { p.kill(ctx.Err()) })
	defer stop()
	go func() {
		_, _ = p.stdin.Write(in.append(nil, f)) // what fails here fails there
		p.stdin.Close()
	}()
	data, err := io.ReadAll(io.LimitReader(p.outputs[0], maxImage+1))
	if len(data) > maxImage {
		p.kill(errors.New("the picture is too large"))
	}
	p.outputs[0].Close()
	<-p.exited
	if p.failed() || err != nil || len(data) == 0 {
		return nil, cmp.Or(err, p.err)
	}
	return data, nil
}
