// Srs starts as SRS does, for those who come from there: by its config files, its
// environment variables and its ports, with its callbacks and its HTTP API.
//
//	srs -c conf/srs.conf
//	SRS_LISTEN=1935 SRS_HTTP_API_ENABLED=on SRS_HTTP_SERVER_ENABLED=on SRS_VHOST_HLS_ENABLED=on srs -e
//
// docs/srs.md says which directives it takes and what is different. SIGINT ends
// it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/runnel-media/runnel/api/srsapi"
)

func main() {
	// What lives here is windows of media, which do not grow: collecting at an
	// eighth of the usual growth costs little and keeps a player's share small.
	debug.SetGCPercent(12)
	signal.Ignore(syscall.SIGHUP) // SRS reads its config again, which is not in
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "srs:", err)
		}
		os.Exit(1)
	}
}

// run does what the command line says. It returns nil when ctx ends.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("srs", flag.ContinueOnError)
	fs.SetOutput(stderr)
	file := fs.String("c", "", "config file; the environment comes before it")
	env := fs.Bool("e", false, "take the config from the environment alone, as SRS_HTTP_API_ENABLED=on")
	test := fs.Bool("t", false, "test the config and exit")
	var version bool
	for _, name := range []string{"v", "V", "version"} {
		fs.BoolVar(&version, name, false, "print the version of SRS whose ways these are, and exit")
	}
	if err := fs.Parse(args); err != nil {
		return err
	}
	switch {
	case version:
		fmt.Fprintln(stdout, srsapi.Compatible)
		return nil
	case fs.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", fs.Arg(0))
	case (*file != "") == *env:
		fs.Usage()
		return errors.New("either -c FILE or -e says what to do")
	}
	var root *directive
	if *file != "" {
		var err error
		if root, err = readConf(*file); err != nil {
			return err
		}
	}
	set, err := newSettings(root, environment())
	if err != nil {
		return err
	}
	if *test {
		for _, w := range set.warnings {
			fmt.Fprintln(stderr, "warning:", w)
		}
		fmt.Fprintln(stdout, "the config is ok")
		return nil
	}
	return serve(ctx, set, stdout)
}
