package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/goccy/go-yaml"
)

// maxYAML is far more than anybody writes by hand, in bytes.
const maxYAML = 1 << 20

// ReadYAML reads a YAML file into the struct that v points to. A key that it does not
// have, or that is there twice, is an error, as is a second document. Errors name the
// file and the line.
func ReadYAML(path string, v any) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxYAML+1))
	if err != nil {
		return err
	}
	if len(b) > maxYAML {
		return fmt.Errorf("%s: more than %d bytes", path, maxYAML)
	}
	d := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict())
	switch err := d.Decode(v); {
	case errors.Is(err, io.EOF): // nothing but comments
		return nil
	case err != nil:
		return fmt.Errorf("%s: %s", path, yaml.FormatError(err, false, false)) // the line itself may hold a secret
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: a second document", path)
	}
	return nil
}
