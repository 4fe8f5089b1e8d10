package main

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/runnel-media/runnel/record"
)

// A mount is a pattern of SRS's for paths, such as "[vhost]/[app]/[stream].flv".
type mount struct {
	re  *regexp.Regexp
	ext string
}

var errMount = errors.New("takes a path with [stream], and perhaps [app], in it, and an extension")

// parseMount reads a pattern. What [vhost] stands for, at its beginning, has been
// replaced.
func parseMount(pattern string) (*mount, error) {
	pattern = "/" + strings.TrimPrefix(pattern, "/")
	m := &mount{ext: path.Ext(pattern)}
	if strings.Count(pattern, "[stream]") != 1 || strings.Count(pattern, "[app]") > 1 || m.ext == "" {
		return nil, errMount
	}
	re := regexp.QuoteMeta(pattern)
	re = strings.Replace(re, `\[app\]`, `(?P<app>.+)`, 1)
	re = strings.Replace(re, `\[stream\]`, `(?P<stream>[^/]+)`, 1)
	var err error
	if m.re, err = regexp.Compile("^" + re + "$"); err != nil {
		return nil, errMount
	}
	return m, nil
}

// match returns what a path stands for. app is "" if the pattern has none.
func (m *mount) match(urlPath string) (app, name string, ok bool) {
	if m == nil {
		return "", "", false
	}
	groups := m.re.FindStringSubmatch(urlPath)
	if groups == nil {
		return "", "", false
	}
	if i := m.re.SubexpIndex("app"); i >= 0 {
		app = groups[i]
	}
	return app, groups[m.re.SubexpIndex("stream")], true
}

// mount reads a pattern of a virtual host. In the path of a URL [vhost] is the Host
// header, and nothing of the path; in that of a file it is a folder.
func (r *reader) mount(directive, otherwise, vhost string) *mount {
	pattern := r.text(directive, otherwise)
	if strings.HasSuffix(directive, ".mount") {
		pattern = strings.TrimPrefix(pattern, "[vhost]")
	}
	m, err := parseMount(strings.ReplaceAll(pattern, "[vhost]", hostName(vhost)))
	if err != nil {
		r.fail(directive, err.Error())
	}
	return m
}

// timeWords are SRS's words for the parts of a time, and package time's.
var timeWords = []string{"2006", "01", "02", "15", "04", "05"}

// expand makes the name of a file of what SRS has in brackets.
func expand(template string, vhost, app, name string, seq uint64, at time.Time, length time.Duration) string {
	words := []string{
		"[vhost]", hostName(vhost), "[app]", app, "[stream]", name, "[seq]", fmt.Sprint(seq), "[timestamp]", fmt.Sprint(at.UnixMilli()),
		"[999]", fmt.Sprintf("%03d", at.Nanosecond()/1e6), "[duration]", fmt.Sprint(length.Milliseconds()),
	}
	for _, w := range timeWords {
		words = append(words, "["+w+"]", at.Format(w))
	}
	return path.Clean(strings.NewReplacer(words...).Replace(template))
}

// recorder makes a Recorder of dvr_path, without its Storage, and returns the
// folder that is to be it. vhost is the virtual host's name.
func (d *dvrSettings) recorder(vhost string, location *time.Location) (*record.Recorder, error) {
	dir, file := d.split(vhost)
	r := &record.Recorder{Location: location, Segment: d.segment}
	switch ext := path.Ext(file); ext {
	case ".flv":
		r.Format = record.FLV
	case ".mp4":
		r.Format = record.MP4
	default:
		return nil, errors.New("ends with neither .flv nor .mp4")
	}
	r.Name = strings.TrimSuffix(file, path.Ext(file))
	if strings.ContainsAny(r.Name, "{}") {
		return nil, errors.New("has braces in it")
	}
	if vhost != "" {
		// The names of other virtual hosts' streams begin with it, and so do their
		// apps as a Recorder sees them.
		r.Name = strings.ReplaceAll(r.Name, "[vhost]/[app]", "[app]")
	}
	words := []string{"[vhost]", vhost, "[app]", "{app}", "[stream]", "{name}", "[timestamp]", "{unix}", "[999]", "{start:.000}"}
	for _, w := range timeWords {
		words = append(words, "["+w+"]", "{start:"+w+"}")
	}
	r.Name = strings.NewReplacer(words...).Replace(r.Name)
	if strings.Contains(r.Name, "[") {
		return nil, errors.New("has something in brackets that is not known")
	}
	if dir == "" {
		return nil, errors.New("begins with a word in brackets")
	}
	return r, nil
}

// split cuts dvr_path into the folder before the first word in brackets and the
// rest. [vhost] that nothing else comes before is part of the folder, for the
// default virtual host, whose name no file of ours may have.
func (d *dvrSettings) split(vhost string) (dir, file string) {
	p := d.path
	if vhost == "" {
		p = strings.ReplaceAll(p, "[vhost]", defaultVhost)
	}
	i := strings.IndexByte(p, '[')
	if i < 0 {
		i = len(p)
	}
	i = strings.LastIndexByte(p[:i], '/') + 1
	return p[:i], p[i:]
}

// dir is the folder of a virtual host's recordings.
func (d *dvrSettings) dir(vhost string) string {
	dir, _ := d.split(vhost)
	return dir
}
