package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// A directive of a config file: its name, its arguments, and what is between its
// braces.
//
//	listen 1935;
//	vhost example.com { hls { enabled on; } }
type directive struct {
	name     string
	args     []string
	children []*directive
	file     string
	line     int
}

// at is where the directive is, for people.
func (d *directive) at() string {
	if d.file == "" {
		return "environment"
	}
	return fmt.Sprintf("%s:%d", d.file, d.line)
}

// child returns the first directive of that name below d, or nil.
func (d *directive) child(name string) *directive {
	if d != nil {
		for _, c := range d.children {
			if c.name == name {
				return c
			}
		}
	}
	return nil
}

// find follows a path such as "hls.hls_path".
func (d *directive) find(path string) *directive {
	for name := range strings.SplitSeq(path, ".") {
		if d = d.child(name); d == nil {
			return nil
		}
	}
	return d
}

// Bounds of a config, included files and all.
const (
	maxConfBytes = 1 << 20
	maxDepth     = 8
	maxIncludes  = 32
	maxWords     = 64 // of one directive
)

// readConf reads a config file and those that it includes, by names relative to the
// working directory, as SRS does, or to the file.
func readConf(file string) (*directive, error) {
	includes := 0
	return readFile(file, &includes)
}

func readFile(file string, includes *int) (*directive, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfBytes+1))
	if err != nil {
		return nil, err
	}
	root, err := parseConf(file, string(b))
	if err != nil {
		return nil, err
	}
	return root, root.include(includes)
}

// include puts what include directives name in their place.
func (d *directive) include(includes *int) error {
	var all []*directive
	for _, c := range d.children {
		if c.name != "include" {
			if err := c.include(includes); err != nil {
				return err
			}
			all = append(all, c)
			continue
		}
		for _, name := range c.args {
			if *includes++; *includes > maxIncludes {
				return fmt.Errorf("%s: more than %d files are included", c.at(), maxIncludes)
			}
			if _, err := os.Stat(name); err != nil && !filepath.IsAbs(name) {
				name = filepath.Join(filepath.Dir(c.file), name)
			}
			part, err := readFile(name, includes)
			if err != nil {
				return fmt.Errorf("%s: %w", c.at(), err)
			}
			all = append(all, part.children...)
		}
	}
	d.children = all
	return nil
}

// parseConf reads the text of a config file.
func parseConf(file, text string) (*directive, error) {
	if len(text) > maxConfBytes {
		return nil, fmt.Errorf("%s: more than %d bytes", file, maxConfBytes)
	}
	p := &parser{file: file, text: text, line: 1}
	root := &directive{file: file, line: 1}
	if err := p.block(root, 0); err != nil {
		return nil, err
	}
	return root, nil
}

type parser struct {
	file, text string
	line       int
}

func (p *parser) errorf(line int, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %s", p.file, line, fmt.Sprintf(format, args...))
}

// block reads directives up to the brace that ends them, or the end of the file.
func (p *parser) block(in *directive, depth int) error {
	if depth > maxDepth {
		return p.errorf(p.line, "braces in braces, %d deep", depth)
	}
	var words []string
	line := p.line
	for {
		word, kind, err := p.next()
		if err != nil {
			return err
		}
		if len(words) == 0 {
			line = p.line
		}
		d := &directive{file: p.file, line: line}
		if len(words) > 0 {
			d.name, d.args = words[0], words[1:]
		}
		switch kind {
		case aWord:
			if words = append(words, word); len(words) > maxWords {
				return p.errorf(line, "more than %d words before a semicolon", maxWords)
			}
			continue
		case semicolon:
			if len(words) == 0 {
				return p.errorf(line, "a semicolon after nothing")
			}
			in.children = append(in.children, d)
		case open:
			if len(words) == 0 {
				return p.errorf(line, "{ without a name before it")
			}
			if err := p.block(d, depth+1); err != nil {
				return err
			}
			in.children = append(in.children, d)
		case closing:
			if len(words) > 0 {
				return p.errorf(line, "no semicolon after %q", words[0])
			}
			if depth == 0 {
				return p.errorf(line, "} without {")
			}
			return nil
		case end:
			if len(words) > 0 {
				return p.errorf(line, "no semicolon after %q", words[0])
			}
			if depth > 0 {
				return p.errorf(in.line, "%s { is never closed", in.name)
			}
			return nil
		}
		words = nil
	}
}

type token uint8

const (
	aWord token = iota
	semicolon
	open
	closing
	end
)

// next reads a token.
func (p *parser) next() (word string, kind token, err error) {
	for p.text != "" {
		switch c := p.text[0]; c {
		case '\n':
			p.line++
			p.text = p.text[1:]
		case ' ', '\t', '\r':
			p.text = p.text[1:]
		case '#':
			if n := strings.IndexByte(p.text, '\n'); n >= 0 {
				p.text = p.text[n:]
			} else {
				p.text = ""
			}
		case ';', '{', '}':
			p.text = p.text[1:]
			return "", map[byte]token{';': semicolon, '{': open, '}': closing}[c], nil
		case '"', '\'':
			n := strings.IndexByte(p.text[1:], c)
			if n < 0 {
				return "", 0, p.errorf(p.line, "a quote is never closed")
			}
			word, p.text = p.text[1:1+n], p.text[2+n:]
			p.line += strings.Count(word, "\n")
			return word, aWord, nil
		default:
			n := strings.IndexAny(p.text, " \t\r\n;{}")
			if n < 0 {
				n = len(p.text)
			}
			word, p.text = p.text[:n], p.text[n:]
			return word, aWord, nil
		}
	}
	return "", end, nil
}
