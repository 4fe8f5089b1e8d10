package main

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A reader reads directives and what is wrong with them.
type reader struct {
	root *directive
	in   *directive // the virtual host that "vhost." means
	env  map[string]string
	errs []error
}

// words returns the arguments of a directive, or of its variable; none if there is
// neither.
func (r *reader) words(path string) []string {
	if v, ok := r.env[envName(path)]; ok {
		return strings.Fields(v)
	}
	if d := r.find(path); d != nil {
		return d.args
	}
	return nil
}

func (r *reader) find(path string) *directive {
	if below, ok := strings.CutPrefix(path, "vhost."); ok {
		return r.in.find(below)
	}
	return r.root.find(path)
}

// asked reports whether a directive has a value, in any virtual host.
func (r *reader) asked(path, value string) bool {
	if v, ok := r.env[envName(path)]; ok {
		return v == value
	}
	below, ofVhost := strings.CutPrefix(path, "vhost.")
	if !ofVhost {
		d := r.root.find(path)
		return d != nil && slices.Equal(d.args, []string{value})
	}
	for _, v := range r.root.children {
		if d := v.find(below); v.name == "vhost" && d != nil && slices.Equal(d.args, []string{value}) {
			return true
		}
	}
	return false
}

func (r *reader) fail(path, what string) {
	if d := r.find(path); d != nil && r.env[envName(path)] == "" {
		r.failAt(d, what)
		return
	}
	r.errs = append(r.errs, fmt.Errorf("%s: %s", path, what))
}

func (r *reader) failAt(d *directive, what string) {
	r.errs = append(r.errs, fmt.Errorf("%s: %s: %s", d.at(), d.name, what))
}

// text returns the one argument of a directive.
func (r *reader) text(path, otherwise string) string {
	switch words := r.words(path); len(words) {
	case 0:
		return otherwise
	case 1:
		return words[0]
	default:
		r.fail(path, "takes one value")
		return otherwise
	}
}

func (r *reader) on(path string, otherwise bool) bool {
	switch v := r.text(path, ""); v {
	case "":
		return otherwise
	case "on", "off":
		return v == "on"
	default:
		r.fail(path, "is neither on nor off")
		return otherwise
	}
}

func (r *reader) integer(path string, otherwise, least, most int) int {
	v := r.text(path, "")
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < least || n > most {
		r.fail(path, fmt.Sprintf("is not a number from %d to %d", least, most))
		return otherwise
	}
	return n
}

func (r *reader) seconds(path string, otherwise, least, most float64) time.Duration {
	n := otherwise
	if v := r.text(path, ""); v != "" {
		f, err := strconv.ParseFloat(v, 64)
		if err != nil || !(f >= least && f <= most) {
			r.fail(path, fmt.Sprintf("is not a number of seconds from %v to %v", least, most))
		} else {
			n = f
		}
	}
	return time.Duration(n * float64(time.Second))
}

// addrs reads what to listen to: ports, and addresses with ports.
func (r *reader) addrs(path, otherwise string) (list []string) {
	words := r.words(path)
	if len(words) == 0 {
		words = []string{otherwise}
	}
	for _, w := range words {
		if !strings.Contains(w, ":") {
			w = ":" + w
		}
		_, port, err := net.SplitHostPort(w)
		if n, err2 := strconv.ParseUint(port, 10, 16); err != nil || err2 != nil || n == 0 {
			r.fail(path, "is neither a port nor an address with a port")
			continue
		}
		list = append(list, w)
	}
	return list
}

// listener reads a block with enabled and listen.
func (r *reader) listener(path, port string, tls bool) listener {
	l := listener{enabled: r.on(path+".enabled", false)}
	if addrs := r.addrs(path+".listen", port); len(addrs) > 0 {
		l.addr = addrs[0]
	}
	if tls && l.enabled {
		if l.key, l.cert = r.text(path+".key", ""), r.text(path+".cert", ""); l.key == "" || l.cert == "" {
			r.fail(path, "takes a key and a cert")
		}
	}
	return l
}
