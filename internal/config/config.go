// Package config reads the settings of the programs under examples: flags, and
// the environment for what no flag was given for. Packages of the library take
// structs; they never read either.
package config

import (
	"flag"
	"fmt"
	"os"
	"strings"
)

// Parse parses args into fs, with the environment behind it: the flag
// -write-interval is also RUNNEL_WRITE_INTERVAL. A flag on the command line
// wins. Flags that may be repeated take a comma-separated list from the
// environment. The error has been printed.
func Parse(fs *flag.FlagSet, args []string) error {
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fail(fs, "unexpected argument %q", fs.Arg(0))
	}
	given := make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	var err error
	fs.VisitAll(func(f *flag.Flag) {
		value, ok := os.LookupEnv(EnvName(f.Name))
		if !ok || given[f.Name] || err != nil {
			return
		}
		values := []string{value}
		if _, ok := f.Value.(*List); ok {
			values = strings.Split(value, ",")
		}
		for _, v := range values {
			if e := fs.Set(f.Name, strings.TrimSpace(v)); e != nil {
				err = fail(fs, "%s: %v", EnvName(f.Name), e)
			}
		}
	})
	return err
}

func fail(fs *flag.FlagSet, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	fmt.Fprintln(fs.Output(), err)
	fs.Usage()
	return err
}

// EnvName returns the environment variable of a flag.
func EnvName(flagName string) string {
	return "RUNNEL_" + strings.ToUpper(strings.ReplaceAll(flagName, "-", "_"))
}

// List is the value of a flag that may be repeated.
type List []string

// String returns the values, comma-separated.
func (l *List) String() string { return strings.Join(*l, ",") }

// Set adds a value.
func (l *List) Set(v string) error {
	*l = append(*l, v)
	return nil
}
